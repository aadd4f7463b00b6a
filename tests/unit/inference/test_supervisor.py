"""Rules of the supervisor for what nobody foresaw, with engine processes that fail as told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest

from meshkit.clock import SystemClock
from meshkit.errors import BackendDown
from services.inference.engine.messages import Fatal, FromEngine, Heartbeat, Ready
from services.inference.engine.transport import BadFrame
from services.inference.engine_client import EngineClient
from services.inference.supervisor import Patience
from tests.support.inference_engines import spec

PATIENCE = Patience(first_backoff_s=0.01, longest_backoff_s=0.02)
READY = Ready(
    architecture="fake",
    context_tokens=64,
    vocabulary_size=64,
    parameter_count=0,
    dtype="float32",
    tensor_parallel_size=1,
    kv_total_tokens=64,
    max_running_count=1,
    rank_pids=[1],
    all_reduce="none",
)


class LivingRanks:
    """Ranks that never die."""

    async def death(self) -> int:
        await asyncio.Event().wait()
        return 0

    def cpu_s(self) -> Mapping[int, float]:
        return {0: asyncio.get_running_loop().time()}

    def stopped(self) -> frozenset[int]:
        return frozenset()


class FakeProcess:
    """Says READY, then whatever is put into `said`; raises what it is given to raise."""

    pid = 1
    ranks = LivingRanks()

    def __init__(self, *, write: Exception | None = None, know: Exception | None = None, end: Exception | None = None):
        self.said: asyncio.Queue[FromEngine] = asyncio.Queue()
        self.said.put_nowait(READY)
        self.has_ended = False
        self._write, self._know, self._end = write, know, end

    def know_ranks(self, pids: Any) -> None:
        if self._know is not None:
            raise self._know

    def send(self, message: Any) -> None:
        pass

    async def read(self) -> FromEngine:
        return await self.said.get()

    async def write(self) -> None:
        if self._write is not None:
            raise self._write
        await asyncio.Event().wait()

    async def end(self, grace_s: float) -> None:
        self.has_ended = True
        if self._end is not None:
            raise self._end


def launcher(*lives: FakeProcess | Exception) -> Callable[[], Awaitable[Any]]:
    """Each launch takes the next life; after the last one come healthy ones."""
    wanted = list(lives)

    async def launch() -> Any:
        life = wanted.pop(0) if wanted else FakeProcess()
        if isinstance(life, Exception):
            raise life
        return life

    return launch


@contextlib.asynccontextmanager
async def client_of(*lives: FakeProcess | Exception) -> AsyncIterator[EngineClient]:
    client = EngineClient(launcher(*lives), SystemClock(), PATIENCE, most_sequences=2)
    async with asyncio.timeout(5):
        try:
            yield client
        finally:
            await client.close()


async def until_generation(client: EngineClient, generation: int) -> None:
    while not (client.is_ready and client.load().generation >= generation):
        await client.load_changed()


@pytest.mark.parametrize(
    "first",
    [ValueError("num_attention_heads is odd"), TypeError("None"), FakeProcess(know=OSError("pidfd_open"))],
    ids=["ValueError", "TypeError", "OSError"],
)
async def test_a_first_start_that_breaks_in_any_way_is_an_error_and_not_a_hang(first: Any) -> None:
    async with client_of(first) as client:
        with pytest.raises(BackendDown):
            await client.start()


@pytest.mark.parametrize("end", [None, OSError("no such descriptor")], ids=["ends well", "ends badly"])
async def test_an_engine_whose_line_breaks_in_any_way_is_replaced(end: Exception | None) -> None:
    broken = FakeProcess(write=BadFrame("a frame is over the limit"), end=end)
    async with client_of(broken) as client:
        readiness: list[bool] = []
        client.on_readiness(readiness.append)
        await client.start()
        await until_generation(client, 2)
        assert readiness == [True, False, True]
        assert broken.has_ended


async def test_a_listener_that_fails_ends_the_life_and_the_next_one_is_started() -> None:
    first = FakeProcess()
    async with client_of(first) as client:
        await client.start()
        client.engine_said = _failing_once(client.engine_said)  # type: ignore[method-assign]
        stream = client.open(spec(5))
        first.said.put_nowait(Heartbeat(step_count=0))
        with pytest.raises(BackendDown):
            await stream.next_event()
        await until_generation(client, 2)


async def test_restarts_that_break_in_any_way_are_tried_again() -> None:
    first = FakeProcess()
    async with client_of(first, ValueError("odd"), FakeProcess(know=OSError("pidfd_open"))) as client:
        await client.start()
        first.said.put_nowait(Fatal(problem="over"))
        await until_generation(client, 2)


async def test_callers_hear_that_the_engine_stopped_and_only_the_log_hears_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = FakeProcess()
    async with client_of(first) as client:
        await client.start()
        stream = client.open(spec(5))
        first.said.put_nowait(Fatal(problem="RuntimeError: /srv/models/secret"))
        with pytest.raises(BackendDown) as heard:
            await stream.next_event()
        assert str(heard.value) == "the engine stopped and is being started again"
        await until_generation(client, 2)
    assert any("/srv/models/secret" in str(vars(record)) for record in caplog.records)


def _failing_once(listener: Callable[[FromEngine], None]) -> Callable[[FromEngine], None]:
    failures = [RuntimeError("a bug")]

    def hear(message: FromEngine) -> None:
        if failures:
            raise failures.pop()
        listener(message)

    return hear
