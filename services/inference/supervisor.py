"""Keeps one engine process alive: start, wait for Ready, watch, and after a death clear up and start again.

A death is seen by the kernel's word (pidfd), by the end of the channel, or by silence (see `liveness.py`). The listener
hears of it at once, before anything is cleared up, so that callers wait for nothing. An error that nobody foresaw, in
the supervisor's own work or the listener's, ends the life like any other: the reason of each end goes to the log alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

from meshkit.clock import Clock
from meshkit.errors import BackendDown
from meshkit.telemetry import logs, names
from services.inference.backoff import Backoff
from services.inference.engine.messages import Fatal, FromEngine, Progress, Ready, ToEngine
from services.inference.engine.transport import BadFrame, EndOfStream
from services.inference.engine_process import EngineProcess
from services.inference.liveness import Liveness

POLL_S = 0.25
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


class Supervisor:
    """Runs one engine life after another until closed."""

    def __init__(
        self, launch: Callable[[], Awaitable[EngineProcess]], listener: Listener, clock: Clock, patience: Patience
    ) -> None:
        self._launch = launch
        self._listener = listener
        self._clock = clock
        self._patience = patience
        self._backoff = Backoff(first_s=patience.first_backoff_s, longest_s=patience.longest_backoff_s)
        self._served_since: float | None = None
        self._first: asyncio.Future[Ready] | None = None
        self._living: asyncio.Task[None] | None = None

    async def start(self) -> Ready:
        """Return when the engine is ready for the first time; BackendDown with the reason if it can't be."""
        self._first = asyncio.get_running_loop().create_future()
        self._living = asyncio.create_task(self._live())
        return await asyncio.shield(self._first)

    async def close(self) -> None:
        """End the engine, gracefully at first; nothing of it is left when this returns."""
        if self._living is not None:
            self._living.cancel()
            await asyncio.gather(self._living, return_exceptions=True)
        if self._first is not None and not self._first.done():
            self._first.cancel()

    async def _live(self) -> None:
        while True:
            reason = await self._one_life()
            if self._first is not None and not self._first.done():
                self._first.set_exception(BackendDown(reason))
                return
            served_s = self._clock.now() - self._served_since if self._served_since is not None else 0.0
            self._served_since = None
            wait_s = self._backoff.after(served_s)
            _log.warning(names.LOG_ENGINE_RESTART, reason=reason, served_s=round(served_s, 1), wait_s=wait_s)
            await self._clock.sleep(wait_s)

    async def _one_life(self) -> str:
        """Start an engine and stay until it is over; the reason is returned, never raised."""
        try:
            process = await self._launch()
        except Exception as problem:
            self._tell_down(problem)
            return f"the engine can't be started: {_reason(problem)}"
        grace_s = 0.0
        try:
            ready = await self._await_ready(process)
            grace_s = self._patience.shutdown_grace_s
            await self._serve(process, ready)
        except Exception as problem:
            grace_s = 0.0
            self._tell_down(problem, process.pid)
            return _reason(problem)
        finally:
            await _end(process, grace_s)

    def _tell_down(self, problem: Exception, pid: int | None = None) -> None:
        stack = None if isinstance(problem, EngineDown) else problem
        _log.error(names.LOG_ENGINE_DOWN, stack=stack, reason=_reason(problem), pid=pid)
        try:
            self._listener.engine_down()
        except Exception as failure:
            _log.error(names.LOG_ENGINE_DOWN, stack=failure, reason="the listener failed when told", pid=pid)

    async def _await_ready(self, process: EngineProcess) -> Ready:
        try:
            async with asyncio.timeout(self._patience.start_timeout_s):
                while True:
                    message = await _read(process)
                    if isinstance(message, Ready):
                        return message
                    if isinstance(message, Progress):
                        _log.info(names.LOG_ENGINE_PROGRESS, stage=message.stage, fraction=message.fraction)
        except TimeoutError:
            raise EngineDown(f"the engine was not ready after {self._patience.start_timeout_s:g} s") from None

    async def _serve(self, process: EngineProcess, ready: Ready) -> NoReturn:
        process.know_ranks(ready.rank_pids)
        self._served_since = self._clock.now()
        liveness = Liveness(
            silence_s=self._patience.silence_s, longest_step_s=self._patience.longest_step_s, now=self._clock.now()
        )
        self._listener.engine_up(ready, process.send)
        _log.info(names.LOG_ENGINE_READY, pid=process.pid, ranks=ready.rank_pids, all_reduce=ready.all_reduce)
        if self._first is not None and not self._first.done():
            self._first.set_result(ready)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(process, liveness))
                tasks.create_task(_write(process))
                tasks.create_task(_await_death(process))
                tasks.create_task(self._watch(process, liveness))
        except* EngineDown as downs:
            raise _first_of(downs) from None
        raise EngineDown("the engine's tasks ended")

    async def _listen(self, process: EngineProcess, liveness: Liveness) -> NoReturn:
        while True:
            message = await _read(process)
            liveness.heard(self._clock.now())
            self._listener.engine_said(message)

    async def _watch(self, process: EngineProcess, liveness: Liveness) -> NoReturn:
        while True:
            await self._clock.sleep(POLL_S)
            if problem := liveness.problem(self._clock.now(), process.ranks.cpu_s()):
                raise EngineDown(problem)


async def _read(process: EngineProcess) -> FromEngine:
    try:
        message = await process.read()
    except EndOfStream:
        raise EngineDown("the engine process ended") from None
    except BadFrame as problem:
        raise EngineDown(f"the engine sent what is no message: {problem}") from None
    if isinstance(message, Fatal):
        raise EngineDown(f"{message.problem}. {message.advice}" if message.advice else message.problem)
    return message


async def _write(process: EngineProcess) -> NoReturn:
    try:
        await process.write()
    except EndOfStream:
        raise EngineDown("the engine process ended") from None
    raise EngineDown("the engine's line was closed")


async def _await_death(process: EngineProcess) -> NoReturn:
    rank = await process.ranks.death()
    raise EngineDown(f"rank {rank} of the engine died")


async def _end(process: EngineProcess, grace_s: float) -> None:
    """What can't be cleared up must not keep the next life from starting."""
    try:
        await process.end(grace_s)
    except Exception as problem:
        _log.error(names.LOG_ENGINE_DOWN, stack=problem, reason="the engine could not be cleared up", pid=process.pid)


def _reason(problem: Exception) -> str:
    """For the operator: an EngineDown says it in words, any other error is named with its kind."""
    if isinstance(problem, ExceptionGroup):
        problem = problem.exceptions[0]
    return str(problem) if isinstance(problem, EngineDown) else f"{type(problem).__name__}: {problem}"


def _first_of(downs: BaseExceptionGroup[EngineDown]) -> EngineDown:
    first = downs.exceptions[0]
    return first if isinstance(first, EngineDown) else _first_of(first)
