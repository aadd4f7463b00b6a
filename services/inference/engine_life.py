"""One life of an engine: from its start to Ready, and from there to its end, which is always an error that says why.

A death is seen by the kernel's word (pidfd), by the end of the channel, or by silence (see `liveness.py`); a rank that
is stopped is seen while the engine starts as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

from meshkit.clock import Clock
from meshkit.telemetry import logs, names
from services.inference.engine.messages import Fatal, FromEngine, Progress, Ready, ToEngine
from services.inference.engine.transport import BadFrame, EndOfStream
from services.inference.engine_process import EngineProcess
from services.inference.liveness import Liveness

POLL_S = 0.25
LAST_WORD_S = 0.5
"""After a rank's death the engine may still say why; it ends by itself well within this."""
_log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the supervisor waits for what."""

    start_timeout_s: float = 600.0
    silence_s: float = 3.5
    longest_step_s: float = 60.0
    shutdown_grace_s: float = 3.0
    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0


class Listener(Protocol):
    """Who is told what the engine says and how it fares."""

    def engine_up(self, ready: Ready, send: Callable[[ToEngine], None]) -> None: ...

    def engine_said(self, message: FromEngine) -> None: ...

    def engine_down(self) -> None: ...


class EngineDown(Exception):
    """This life of the engine is over; the text says why, and what the operator can do."""


class EngineHung(EngineDown):
    """It did not end by itself."""


class EngineLife:
    """Watches one engine process; whoever started it ends it."""

    def __init__(self, process: EngineProcess, listener: Listener, clock: Clock, patience: Patience) -> None:
        self._process = process
        self._listener = listener
        self._clock = clock
        self._patience = patience

    async def until_ready(self) -> Ready:
        """Raises EngineDown where it never gets ready."""
        try:
            async with asyncio.timeout(self._patience.start_timeout_s), _tasks() as tasks:
                watch = tasks.create_task(self._watch(self._liveness(), is_starting=True))
                ready = await self._read_until_ready()
                watch.cancel()
                return ready
        except TimeoutError:
            raise EngineDown(f"the engine was not ready after {self._patience.start_timeout_s:g} s") from None

    async def _read_until_ready(self) -> Ready:
        while True:
            message = await _read(self._process)
            if isinstance(message, Ready):
                return message
            if isinstance(message, Progress):
                if message.rank_pids:
                    self._process.know_ranks(message.rank_pids)
                _log.info(names.LOG_ENGINE_PROGRESS, stage=message.stage, fraction=message.fraction)

    def begin(self, ready: Ready) -> None:
        """Tell the listener that it is up."""
        process = self._process
        process.know_ranks(ready.rank_pids)
        self._listener.engine_up(ready, process.send)
        _log.info(names.LOG_ENGINE_READY, pid=process.pid, ranks=ready.rank_pids, all_reduce=ready.all_reduce)

    async def serve(self) -> NoReturn:
        """Tell the listener what it says; raises EngineDown in the end."""
        liveness = self._liveness()
        async with _tasks() as tasks:
            tasks.create_task(self._listen(liveness))
            tasks.create_task(_write(self._process))
            tasks.create_task(self._await_death())
            tasks.create_task(self._watch(liveness))
        raise EngineDown("the engine's tasks ended")

    def _liveness(self) -> Liveness:
        patience = self._patience
        return Liveness(silence_s=patience.silence_s, longest_step_s=patience.longest_step_s, now=self._clock.now())

    async def _listen(self, liveness: Liveness) -> NoReturn:
        while True:
            message = await _read(self._process)
            liveness.heard(self._clock.now())
            self._listener.engine_said(message)

    async def _watch(self, liveness: Liveness, *, is_starting: bool = False) -> NoReturn:
        """An engine that starts may be silent and idle for long, while something is compiled."""
        while True:
            before = self._clock.now()
            await self._clock.sleep(POLL_S)
            now = self._clock.now()
            if (late_s := now - before - POLL_S) > POLL_S:
                liveness.excuse(late_s)
            problem = liveness.halt(now, self._process.ranks.stopped())
            if not problem and not is_starting:
                problem = liveness.problem(now, self._process.ranks.cpu_s())
            if problem:
                raise EngineHung(problem)

    async def _await_death(self) -> NoReturn:
        rank = await self._process.ranks.death()
        await self._clock.sleep(LAST_WORD_S)
        raise EngineDown(_died(rank))


@contextlib.asynccontextmanager
async def _tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """A group whose first error comes out alone."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except ExceptionGroup as problems:
        raise _first_of(problems) from None


async def _read(process: EngineProcess) -> FromEngine:
    try:
        message = await process.read()
    except EndOfStream:
        raise _ended(process) from None
    except BadFrame as problem:
        raise EngineDown(f"the engine sent what is no message: {problem}") from None
    if isinstance(message, Fatal):
        raise EngineDown(f"{message.problem}. {message.advice}" if message.advice else message.problem)
    return message


async def _write(process: EngineProcess) -> NoReturn:
    try:
        await process.write()
    except EndOfStream:
        raise _ended(process) from None
    raise EngineDown("the engine's line was closed")


def _ended(process: EngineProcess) -> EngineDown:
    """Rank 0 ends as soon as another one has."""
    dead = process.ranks.first_dead
    return EngineDown("the engine process ended" if dead is None else _died(dead))


def _died(rank: int) -> str:
    return f"rank {rank} of the engine died"


def _first_of(problems: ExceptionGroup[Exception]) -> Exception:
    first = problems.exceptions[0]
    return _first_of(first) if isinstance(first, ExceptionGroup) else first
