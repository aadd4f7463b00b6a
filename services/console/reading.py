"""Reads off the event loop: two threads at most, so that heavy searches wait for each other and for nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from meshkit.clock import Clock
from services.console.reader import Reader

T = TypeVar("T")
_THREADS = 2


class Reading:
    """Runs reads, with what they need of time."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="span-reader")

    async def run(self, work: Callable[[Reader], T]) -> T:
        """The result of `work`, computed in a thread; what it raises is raised."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, self._reader)

    def now_us(self) -> int:
        """Unix time in microseconds."""
        return int(self._clock.wall() * 1_000_000)

    def close(self) -> None:
        """Start no further read."""
        self._threads.shutdown(wait=False, cancel_futures=True)
