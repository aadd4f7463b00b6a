"""An instance over two hosts loses the other one: its streams end soon, and it serves again when that host is back."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from meshkit.clock import SystemClock
from meshkit.errors import BackendDown
from meshkit.settings_loader import load
from meshkit.testing.fault_proxy import FaultProxy
from services.inference.app import build_engine
from services.inference.engine.messages import Sampling, Stopping, TokenDrawn
from services.inference.engine_client import EngineClient
from services.inference.engine_port import SequenceSpec, SequenceStream
from services.inference.settings import InferenceSettings
from tests.integration.inference_engine.test_engine_process import DRAWN, plain_greedy, requests
from tests.support.engine_node import SECRET, NodeUnderTest, revision_of
from tests.support.engine_process import CACHE_DIR, PATIENCE_S
from tests.support.free_port import free_port
from tests.support.tiny_model import make_tiny_model

SEEN_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    return file


@contextlib.asynccontextmanager
async def started(checkpoint: Path, rendezvous: str, secret_file: Path) -> AsyncIterator[EngineClient]:
    """The engine of node 0, as the service makes it."""
    environ = {
        "MODEL__SOURCE": str(checkpoint),
        "MODEL__CACHE_DIR": str(CACHE_DIR),
        "NODES__COUNT": "2",
        "NODES__RENDEZVOUS": rendezvous,
        "NODES__SECRET_FILE": str(secret_file),
        "ENGINE__DEVICE": "cpu",
        "ENGINE__KV_TOKENS": "2048",
        "ENGINE__THREADS_PER_RANK": "1",
    }
    variables = {f"MESH_INFERENCE_{name}": value for name, value in environ.items()}
    settings = load(InferenceSettings, env_prefix="MESH_INFERENCE_", path=None, environ=variables).value
    client = build_engine(settings, checkpoint, SystemClock(), revision_of(checkpoint))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await client.start()
            yield client
    finally:
        await client.close()


async def test_streams_end_when_the_other_host_dies_and_a_new_one_brings_the_group_back(
    checkpoint: Path, secret_file: Path
) -> None:
    rendezvous = f"127.0.0.1:{free_port()}"
    with NodeUnderTest(checkpoint, rendezvous, secret_file) as node:
        async with started(checkpoint, rendezvous, secret_file) as client:
            stream = client.open(spec([9, 10], 400))
            await stream.next_event()
            node.signal_tree(signal.SIGKILL)
            async with asyncio.timeout(SEEN_WITHIN_S):
                with pytest.raises(BackendDown):
                    await drawn(stream)
            with NodeUnderTest(checkpoint, rendezvous, secret_file):
                await ready_again(client)
                await assert_exact(client, checkpoint)


async def test_cut_line_is_seen_by_both_hosts_and_they_meet_again_when_it_is_mended(
    checkpoint: Path, secret_file: Path
) -> None:
    rendezvous = f"127.0.0.1:{free_port()}"
    async with FaultProxy.to(rendezvous) as proxy:
        with NodeUnderTest(checkpoint, proxy.address, secret_file) as node:
            async with started(checkpoint, rendezvous, secret_file) as client:
                far_ranks = node.ranks()
                stream = client.open(spec([9, 10], 400))
                await stream.next_event()
                proxy.freeze()
                async with asyncio.timeout(SEEN_WITHIN_S):
                    with pytest.raises(BackendDown):
                        await drawn(stream)
                gone, alive = await asyncio.to_thread(psutil.wait_procs, far_ranks, SEEN_WITHIN_S)
                assert gone and not alive
                proxy.thaw()
                await ready_again(client)
                await assert_exact(client, checkpoint)


async def assert_exact(client: EngineClient, checkpoint: Path) -> None:
    streams = {request.sequence_id: client.open(spec(request.prompt_ids, DRAWN)) for request in requests()}
    assert {i: await drawn(stream) for i, stream in streams.items()} == plain_greedy(checkpoint)


async def ready_again(client: EngineClient) -> None:
    while not (client.is_ready and client.load().generation == 2):
        await client.load_changed()


async def drawn(stream: SequenceStream) -> list[int]:
    tokens: list[int] = []
    while True:
        event = await stream.next_event()
        if isinstance(event, TokenDrawn):
            tokens.append(event.token_id)
            if event.finish is not None:
                return tokens


def spec(prompt_ids: list[int], max_tokens: int) -> SequenceSpec:
    return SequenceSpec(
        prompt_ids=prompt_ids, sampling=Sampling(temperature=0.0), stopping=Stopping(max_tokens=max_tokens)
    )
