"""Flushes of the prefix cache under way: each is answered by the engine, or ends with it; a key is flushed once."""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from meshkit.errors import BackendDown
from services.inference.engine.messages import FlushCache, Flushed, ToEngine

MOST_KEYS = 64


class Flushes:
    """Those that the engine has not answered yet."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[int]] = {}

    async def flush(self, send: Callable[[ToEngine], None]) -> int:
        """Blocks that came free. Raises BackendDown when the engine dies first."""
        flush_id = next(self._ids)
        self._waiting[flush_id] = asyncio.get_running_loop().create_future()
        send(FlushCache(flush_id=flush_id))
        try:
            return await self._waiting[flush_id]
        finally:
            self._waiting.pop(flush_id, None)

    def answer(self, flushed: Flushed) -> None:
        waiting = self._waiting.get(flushed.flush_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(flushed.block_count)

    def fail_all(self, told: str) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(BackendDown(told))


class FlushesByKey:
    """Requests with the same key, now or a little later, are one flush and have one answer."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, asyncio.Task[int]] = OrderedDict()

    async def once(self, key: str, flush: Callable[[], Awaitable[int]]) -> int:
        """An empty key is never the same as another. A flush that failed may be tried again."""
        if not key:
            return await flush()
        task = self._known.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.ensure_future(_as_coroutine(flush))
            self._known[key] = task
            while len(self._known) > MOST_KEYS:
                self._known.popitem(last=False)
        return await asyncio.shield(task)


async def _as_coroutine(flush: Callable[[], Awaitable[int]]) -> int:
    return await flush()
