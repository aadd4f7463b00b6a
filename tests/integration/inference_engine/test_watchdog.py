"""Real ranks that are lost in every way: seen within five seconds, told to every stream, and back by themselves.

The tests of an all-reduce share one client: each leaves it in a new life of its engine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from meshkit.errors import BackendDown, NotReady
from services.inference.engine_client import EngineClient
from services.inference.engine_port import SequenceStream
from tests.support.inference_engines import drain
from tests.support.real_engine import FAULTS, greedy, stop, two_ranks
from tests.support.tiny_model import make_tiny_model

pytestmark = pytest.mark.asyncio(loop_scope="module")
SEEN_WITHIN_S = 5.0
BACK_WITHIN_S = 240.0
"""A start takes ten seconds on two free cores; the machine may be busy."""
STREAM_COUNT = 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("watchdog"))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["shm", "gloo"])
async def client(request: pytest.FixtureRequest, checkpoint: Path) -> AsyncIterator[EngineClient]:
    async with two_ranks(checkpoint, request.param) as client:
        assert client.facts is not None and client.facts.all_reduce == request.param
        yield client


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("fault", FAULTS)
async def test_rank_that_is_lost_while_sequences_run_ends_them_and_the_group_is_back_by_itself(
    client: EngineClient, fault: str, rank: int
) -> None:
    pids, before = ranks(client), await answer(client)
    streams = [client.open(greedy([9, 10], 450)) for _ in range(STREAM_COUNT)]
    await asyncio.gather(*(stream.next_event() for stream in streams))
    FAULTS[fault](client, rank)
    ends = await asyncio.wait_for(asyncio.gather(*map(end_of, streams)), SEEN_WITHIN_S)
    assert all(isinstance(end, BackendDown) for end in ends), ends
    with pytest.raises(NotReady):
        client.open(greedy([9], 1))
    await back(client)
    assert await answer(client) == before
    assert psutil.wait_procs(pids, 0)[1] == []


@pytest.mark.parametrize("rank", [0, 1])
async def test_rank_that_is_stopped_while_all_idle_turns_readiness_red_and_the_group_is_back(
    client: EngineClient, rank: int
) -> None:
    readiness: list[bool] = []
    client.on_readiness(readiness.append)
    before = await answer(client)
    stop(client, rank)
    async with asyncio.timeout(SEEN_WITHIN_S):
        while client.is_ready:
            await client.load_changed()
    await back(client)
    assert readiness == [False, True]
    assert await answer(client) == before


async def test_what_ran_out_of_memory_is_told_in_the_log(
    client: EngineClient, caplog: pytest.LogCaptureFixture
) -> None:
    FAULTS["out of memory"](client, 1)
    async with asyncio.timeout(SEEN_WITHIN_S):
        while client.is_ready:
            await client.load_changed()
    await back(client)
    assert any("memory ran out. Lower" in str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize("rank", [0, 1])
async def test_rank_that_is_stopped_before_ready_is_seen_and_readiness_waits_for_a_start_that_draws(
    client: EngineClient, rank: int
) -> None:
    readiness: list[bool] = []
    client.on_readiness(readiness.append)
    before, old = await answer(client), ranks(client)
    FAULTS["killed"](client, 1)
    starting = await next_life(rank, old)
    starting.suspend()
    stopped_at = time.monotonic()
    async with asyncio.timeout(BACK_WITHIN_S):
        while lives(starting):
            await asyncio.sleep(0.05)
    assert time.monotonic() - stopped_at < SEEN_WITHIN_S
    assert readiness == [False]
    await back(client)
    assert readiness == [False, True]
    assert await answer(client) == before


def lives(process: psutil.Process) -> bool:
    """A rank whose parent died with it may wait for a while to be buried."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def ranks(client: EngineClient) -> list[psutil.Process]:
    assert client.facts is not None
    return [psutil.Process(pid) for pid in client.facts.rank_pids]


async def next_life(rank: int, old: list[psutil.Process]) -> psutil.Process:
    """This rank of the engine that is being started."""
    async with asyncio.timeout(BACK_WITHIN_S):
        while True:
            for process in psutil.Process().children(recursive=True):
                if process not in old and number_of(process) == rank:
                    return process
            await asyncio.sleep(0.02)


def number_of(process: psutil.Process) -> int | None:
    """Of the rank that this process is."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return None
    return int(words[words.index("--rank") + 1]) if "--rank" in words else None


async def answer(client: EngineClient) -> list[int]:
    """What the model says to one prompt, always the same."""
    tokens, _ = await drain(client.open(greedy([9, 10, 11], 8)))
    return tokens


async def end_of(stream: SequenceStream) -> object:
    try:
        return await drain(stream)
    except Exception as error:
        return error


async def back(client: EngineClient) -> None:
    async with asyncio.timeout(BACK_WITHIN_S):
        while not client.is_ready:
            await client.load_changed()
