"""Equal questions at the same time are asked once: whoever comes while one is under way gets its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Together(Generic[K, V]):
    """Questions under way. One that fails fails for all who wait; the next one asks anew."""

    def __init__(self) -> None:
        self._under_way: dict[K, asyncio.Task[V]] = {}

    async def ask(self, key: K, question: Callable[[], Awaitable[V]]) -> V:
        """The answer. A caller that is cancelled ends nothing for the others."""
        answer, _ = await self.ask_once(key, question)
        return answer

    async def ask_once(self, key: K, question: Callable[[], Awaitable[V]]) -> tuple[V, bool]:
        """The answer, and whether it was this caller's question that was asked."""
        task = self._under_way.get(key)
        # One that has its answer, but whose callback has not run yet, is over: waiting for it would not even yield.
        is_own = task is None or task.done()
        if task is None or task.done():
            task = asyncio.ensure_future(_awaited(question))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task), is_own

    def _forget(self, key: K, done: asyncio.Task[V]) -> None:
        if self._under_way.get(key) is done:
            del self._under_way[key]


async def _awaited(question: Callable[[], Awaitable[V]]) -> V:
    return await question()
