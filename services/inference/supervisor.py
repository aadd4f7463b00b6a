"""Keeps one engine process alive: starts it, and after a death clears up and starts it again.

`engine_life.py` watches one life. The listener hears of its end at once, before anything is cleared up, so that callers
wait for nothing. An error that nobody foresaw, in the watching or the listener's own work, ends a life like any other:
the reason of each end goes to the log alone. A first start that fails is for the caller to hear of; only one that hung
is tried again, a few times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from meshkit.clock import Clock
from meshkit.errors import BackendDown
from meshkit.telemetry import logs, names
from services.inference.backoff import Backoff
from services.inference.engine.messages import Ready
from services.inference.engine_life import EngineDown, EngineHung, EngineLife, Listener, Patience
from services.inference.engine_process import EngineProcess

__all__ = ["Patience", "Supervisor"]

MOST_FIRST_STARTS = 3
_log = logs.get_logger(__name__)


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
        self._living = asyncio.create_task(self._live(self._first))
        return await asyncio.shield(self._first)

    async def close(self) -> None:
        """End the engine, gracefully at first; nothing of it is left when this returns."""
        if self._living is not None:
            self._living.cancel()
            await asyncio.gather(self._living, return_exceptions=True)
        if self._first is not None and not self._first.done():
            self._first.cancel()

    async def _live(self, first: asyncio.Future[Ready]) -> None:
        start_count = 0
        while True:
            problem, start_count = await self._one_life(first), start_count + 1
            reason, was_hung = _reason(problem), isinstance(problem, EngineHung)
            if not first.done() and (not was_hung or start_count == MOST_FIRST_STARTS):
                first.set_exception(BackendDown(reason))
                return
            served_s = self._clock.now() - self._served_since if self._served_since is not None else 0.0
            self._served_since = None
            wait_s = self._backoff.after(served_s)
            _log.warning(names.LOG_ENGINE_RESTART, reason=reason, served_s=round(served_s, 1), wait_s=wait_s)
            await self._clock.sleep(wait_s)

    async def _one_life(self, first: asyncio.Future[Ready]) -> Exception:
        """Start an engine and stay until it is over; the reason is returned, never raised."""
        try:
            process = await self._launch()
        except Exception as problem:
            self._tell_down(problem)
            return EngineDown(f"the engine can't be started: {_reason(problem)}")
        grace_s = 0.0
        try:
            life = EngineLife(process, self._listener, self._clock, self._patience)
            ready = await life.until_ready()
            grace_s = self._patience.shutdown_grace_s
            self._served_since = self._clock.now()
            life.begin(ready)
            if not first.done():
                first.set_result(ready)
            await life.serve()
        except Exception as problem:
            grace_s = 0.0
            self._tell_down(problem, process.pid)
            return problem
        finally:
            await _end(process, grace_s)

    def _tell_down(self, problem: Exception, pid: int | None = None) -> None:
        stack = None if isinstance(problem, EngineDown) else problem
        _log.error(names.LOG_ENGINE_DOWN, stack=stack, reason=_reason(problem), pid=pid)
        try:
            self._listener.engine_down()
        except Exception as failure:
            _log.error(names.LOG_ENGINE_DOWN, stack=failure, reason="the listener failed when told", pid=pid)


async def _end(process: EngineProcess, grace_s: float) -> None:
    """What can't be cleared up must not keep the next life from starting."""
    try:
        await process.end(grace_s)
    except Exception as problem:
        _log.error(names.LOG_ENGINE_DOWN, stack=problem, reason="the engine could not be cleared up", pid=process.pid)


def _reason(problem: Exception) -> str:
    """For the operator: an EngineDown says it in words, any other error is named with its kind."""
    return str(problem) if isinstance(problem, EngineDown) else f"{type(problem).__name__}: {problem}"
