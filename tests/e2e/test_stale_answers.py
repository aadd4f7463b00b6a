"""A stale answer over several routers: everybody gets it at once, and it is generated anew once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2 as pb
from mesh.router.v1 import router_service_pb2_grpc
from meshctl.local.ports import free_ports
from tests.support.local_mesh import LocalMesh
from tests.support.more_instances import another
from tests.support.single_flight import generation_count

PATIENCE_S = 60.0
TTL_S = 0.5
TOKENS_PER_S = 20.0
MAX_TOKENS = 40
CALLERS = 30


@pytest.fixture
def metrics_port() -> int:
    return free_ports().router


@pytest.fixture
def mesh(tmp_path: Path, tiny_model: Path, metrics_port: int) -> Iterator[LocalMesh]:
    environment = {
        "MESH_INFERENCE_SERVER__METRICS_PORT": str(metrics_port),
        "MESH_INFERENCE_ENGINE__KIND": "echo",
        "MESH_INFERENCE_ENGINE__ECHO_TOKENS_PER_S": str(TOKENS_PER_S),
        "MESH_CACHE_ENTRY__STALE_S": "300",
    }
    mesh = LocalMesh(tmp_path / "run", str(tiny_model), environment=environment)
    mesh.up("--prompt", "")
    yield mesh
    mesh.down()


async def ask(address: str) -> tuple[list[pb.GenerateEvent], float]:
    """The events, and how long they took."""
    request = pb.GenerateRequest(
        prompt={"text": "a question whose answer grows old " * 2},
        sampling={"temperature": 0},
        stopping={"max_tokens": MAX_TOKENS, "ignore_eos": True},
        cache={"ttl": {"nanos": int(TTL_S * 1e9)}},
    )
    began_at = time.monotonic()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = router_service_pb2_grpc.RouterServiceStub(channel)
        events = [event async for event in stub.Generate(request, timeout=PATIENCE_S)]
    return events, time.monotonic() - began_at


async def test_a_stale_answer_over_three_routers_is_given_at_once_and_generated_anew_once(
    mesh: LocalMesh, metrics_port: int
) -> None:
    with another(mesh, "cache"), another(mesh, "router") as second, another(mesh, "router") as third:
        routers = [mesh.router, second.address, third.address]
        first, generated_s = await ask(mesh.router)
        before = await generation_count(metrics_port)
        async with asyncio.timeout(PATIENCE_S):
            while not (await ask(mesh.router))[0][0].accepted.stale:
                pass
        answers = await asyncio.gather(*(ask(routers[number % 3]) for number in range(CALLERS)))
        for events, took_s in answers:
            assert events[0].accepted.cache_status == common_pb2.CACHE_STATUS_HIT and events[0].accepted.stale
            assert [event.delta.text for event in events] == [event.delta.text for event in first]
            assert took_s < generated_s, "nobody waits for the generation"
        async with asyncio.timeout(PATIENCE_S):
            while (await ask(mesh.router))[0][0].accepted.stale:
                pass
    assert await generation_count(metrics_port) - before == 1


async def test_while_no_engine_answers_the_stale_answer_stays(mesh: LocalMesh) -> None:
    first, _ = await ask(mesh.router)
    os.kill(mesh.pid_of("inference"), signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        while not (await ask(mesh.router))[0][0].accepted.stale:
            pass
    for _ in range(10):
        events, _ = await ask(mesh.router)
        assert events[0].accepted.cache_status == common_pb2.CACHE_STATUS_HIT
        assert [event.delta.text for event in events] == [event.delta.text for event in first]
