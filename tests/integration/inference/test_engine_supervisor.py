"""Rules of the supervisor and the client above it, with a fake engine process that can be killed and hung."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from meshkit.errors import BackendDown, Internal, NotReady
from services.inference.byte_tokenizer import END_TOKEN_ID
from services.inference.engine_client import EngineClient
from tests.support.fake_engine import DIE, GIVE_UP, HANG, REFUSE, STOP_ITSELF
from tests.support.inference_engines import PATIENCE, drain, fake_client, spec

SEEN_WITHIN_S = 5.0


@contextlib.asynccontextmanager
async def started(client: EngineClient) -> AsyncIterator[EngineClient]:
    async with asyncio.timeout(60):
        try:
            await client.start()
            yield client
        finally:
            await client.close()


def rank_pids(client: EngineClient) -> list[int]:
    assert client.facts is not None
    return client.facts.rank_pids


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def ready_again(client: EngineClient, generation: int = 2) -> None:
    while not (client.is_ready and client.load().generation >= generation):
        await client.load_changed()


def kill(rank: int) -> Callable[[EngineClient], None]:
    return lambda client: os.kill(rank_pids(client)[rank], signal.SIGKILL)


@pytest.mark.parametrize("rank", [0, 1])
async def test_death_of_any_rank_ends_all_sequences_at_once_and_the_engine_comes_back(rank: int) -> None:
    async with started(fake_client()) as client:
        before = rank_pids(client)
        readiness: list[bool] = []
        client.on_readiness(readiness.append)
        streams = [client.open(spec(5, ends=False, max_tokens=4000)) for _ in range(3)]
        await asyncio.gather(*(stream.next_event() for stream in streams))
        kill(rank)(client)
        async with asyncio.timeout(2):
            ends = await asyncio.gather(*(drain(stream) for stream in streams), return_exceptions=True)
        assert all(isinstance(end, BackendDown) for end in ends)
        with pytest.raises(NotReady):
            client.open(spec(5))
        await ready_again(client)
        assert readiness == [False, True]
        assert not any(is_alive(pid) for pid in before)
        assert (await drain(client.open(spec(5))))[1] == "stop"


@pytest.mark.parametrize("way", [DIE, HANG, STOP_ITSELF])
async def test_engine_that_dies_or_hangs_on_a_sequence_is_replaced(way: int) -> None:
    async with started(fake_client()) as client:
        before = rank_pids(client)
        with pytest.raises(BackendDown):
            await drain(client.open(spec(way)))
        await ready_again(client)
        assert not any(is_alive(pid) for pid in before)
        assert (await drain(client.open(spec(5))))[1] == "stop"


@pytest.mark.parametrize("rank", [0, 1])
async def test_rank_that_is_stopped_while_the_engine_idles_is_seen_and_replaced(rank: int) -> None:
    async with started(fake_client()) as client:
        before = rank_pids(client)
        readiness: list[bool] = []
        client.on_readiness(readiness.append)
        os.kill(before[rank], signal.SIGSTOP)
        async with asyncio.timeout(SEEN_WITHIN_S):
            while client.is_ready:
                await client.load_changed()
        await ready_again(client)
        assert readiness == [False, True]
        assert not any(is_alive(pid) for pid in before)


async def test_rank_that_is_stopped_for_a_moment_is_left_alone() -> None:
    async with started(fake_client()) as client:
        os.kill(rank_pids(client)[1], signal.SIGSTOP)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE.silence_s / 2):
                while client.is_ready:
                    await client.load_changed()
        os.kill(rank_pids(client)[1], signal.SIGCONT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE.silence_s):
                while client.is_ready:
                    await client.load_changed()
        assert client.is_ready and client.load().generation == 1


@pytest.mark.parametrize("start", ["stops", "stops rank 1"])
async def test_rank_that_is_stopped_before_ready_costs_the_first_start_another_try(start: str) -> None:
    async with started(fake_client(start, "ready")) as client:
        assert (await drain(client.open(spec(5))))[1] == "stop"


async def test_first_start_that_hangs_each_time_is_an_error_in_the_end() -> None:
    client = fake_client("stops")
    async with asyncio.timeout(30):
        with pytest.raises(BackendDown, match="rank 0 has hung: it has been stopped"):
            await client.start()
        await client.close()


async def test_what_the_engine_says_before_it_dies_is_the_reason_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with started(fake_client()) as client:
        with pytest.raises(BackendDown):
            await drain(client.open(spec(GIVE_UP)))
        await ready_again(client)
    assert any("memory ran out. Lower something." in str(vars(record)) for record in caplog.records)


async def test_request_without_a_token_is_answered_by_the_next_life_where_it_may_wait() -> None:
    async with started(fake_client("ready", "dies", "ready", requeue_s=30.0)) as client:
        os.kill(rank_pids(client)[0], signal.SIGSTOP)
        stream = client.open(spec(5, 6))
        kill(0)(client)
        assert await drain(stream) == ([5, 6, END_TOKEN_ID], "stop")
        assert client.load().generation == 2


async def test_request_that_kills_engines_kills_no_more_than_two() -> None:
    async with started(fake_client(requeue_s=30.0)) as client:
        with pytest.raises(BackendDown):
            await drain(client.open(spec(DIE)))
        await ready_again(client, generation=3)
        assert (await drain(client.open(spec(5))))[1] == "stop"
        assert client.load().generation == 3


async def test_one_sequence_given_up_by_the_engine_harms_no_other() -> None:
    async with started(fake_client()) as client:
        other = client.open(spec(5, 6))
        with pytest.raises(Internal, match="as told"):
            await drain(client.open(spec(REFUSE)))
        assert (await drain(other))[1] == "stop"
        assert client.load().generation == 1


async def test_idle_engine_is_not_taken_for_hung() -> None:
    async with started(fake_client(patience=replace(PATIENCE, silence_s=1.5))) as client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.5):
                while client.is_ready:
                    await client.load_changed()
        assert client.is_ready and client.load().generation == 1


async def test_first_start_that_fails_says_problem_and_advice() -> None:
    client = fake_client("fatal")
    with pytest.raises(BackendDown, match=r"no model here\. Name one\."):
        await client.start()
    await client.close()


@pytest.mark.parametrize("start", ["dies", "never"])
async def test_first_start_that_never_gets_ready_is_an_error(start: str) -> None:
    client = fake_client(start, patience=replace(PATIENCE, start_timeout_s=2.0))
    async with asyncio.timeout(20):
        with pytest.raises(BackendDown):
            await client.start()
        await client.close()


async def test_failed_restarts_are_tried_again() -> None:
    async with started(fake_client("ready", "fatal", "dies", "ready")) as client:
        kill(1)(client)
        await ready_again(client)
        assert (await drain(client.open(spec(5))))[1] == "stop"


async def test_close_leaves_no_process() -> None:
    client = fake_client()
    async with started(client):
        pids = rank_pids(client)
        client.open(spec(5, ends=False, max_tokens=4000))
    assert not any(is_alive(pid) for pid in pids)


async def test_close_leaves_no_process_of_an_engine_that_ignores_it() -> None:
    client = fake_client(patience=replace(PATIENCE, shutdown_grace_s=0.2, silence_s=30.0, longest_step_s=30.0))
    async with started(client):
        pids = rank_pids(client)
        stream = client.open(spec(5, ends=False, max_tokens=4000))
        await stream.next_event()
        client.open(spec(HANG))
    assert not any(is_alive(pid) for pid in pids)
