"""Flushes of the prefix cache: a key is flushed once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

MOST_KEYS = 64


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
