"""Where work on text runs: small texts at once, large ones in a thread, so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Offload:
    """Runs pure functions. More than `concurrency` large ones wait for each other."""

    def __init__(self, *, least_chars: int, concurrency: int) -> None:
        self._least_chars = least_chars
        self._slots = asyncio.Semaphore(concurrency)

    async def run(self, work: Callable[[], T], *, size: int) -> T:
        """The result of `work` on a text of `size` characters."""
        if size < self._least_chars:
            return work()
        return await self.aside(work)

    async def aside(self, work: Callable[[], T]) -> T:
        """The result of `work`, in a thread whatever the size."""
        async with self._slots:
            return await asyncio.to_thread(work)
