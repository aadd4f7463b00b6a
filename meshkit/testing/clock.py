"""Time that moves only when a test says so."""

from __future__ import annotations

import asyncio
import heapq


class FakeClock:
    """A Clock whose sleepers wake, in order, while `advance` runs."""

    def __init__(self, now: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall_offset = wall - now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._wall_offset

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._count += 1
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, self._count, sleeper))
        await sleeper

    async def advance(self, seconds: float) -> None:
        """Move time on, waking each sleeper at its moment and letting it run."""
        end = self._now + seconds
        await _let_others_run()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._now, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)
            await _let_others_run()
        self._now = end


async def _let_others_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
