"""Where time comes from. Code takes a Clock; tests pass `meshkit.testing.FakeClock`."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A source of time, in seconds."""

    def now(self) -> float:
        """Monotonic seconds, for spans."""
        ...

    def wall(self) -> float:
        """Unix time in seconds, for records."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after this many monotonic seconds."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
