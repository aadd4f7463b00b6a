"""Who comes in: so many at once, so many waiting by priority, the rest refused at once with a time to come back."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator, Iterator

from meshkit.errors import DeadlineExceeded, NotReady, Overloaded


class Admission:
    """Places for requests. A place is given back when its block is left, however that happens."""

    def __init__(self, *, max_active: int, max_waiting: int, max_wait_s: float) -> None:
        self._max_active = max_active
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._is_closed = False
        self.active_count = 0
        self.waiting_count = 0

    @contextlib.asynccontextmanager
    async def place(self, *, priority: int, timeout_s: float) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises Overloaded, DeadlineExceeded or NotReady."""
        await self._enter(priority, timeout_s)
        try:
            yield
        finally:
            self._leave()

    @property
    def has_spare_place(self) -> bool:
        """Whether one more would make nobody wait now."""
        return not self._is_closed and not self.waiting_count and self.active_count < self._max_active

    @contextlib.contextmanager
    def spare_place(self) -> Iterator[None]:
        """Hold a place that nobody waits for. Raises Overloaded."""
        if not self.has_spare_place:
            raise Overloaded("no place is free; try again later", retry_after_s=1.0)
        self.active_count += 1
        try:
            yield
        finally:
            self._leave()

    def close(self) -> None:
        """Take nobody in from now on; those inside stay."""
        self._is_closed = True

    async def _enter(self, priority: int, timeout_s: float) -> None:
        if self._is_closed:
            raise NotReady("this router is shutting down; ask another one")
        if self.active_count < self._max_active:
            self.active_count += 1
            return
        if self.waiting_count >= self._max_waiting:
            raise Overloaded(
                f"{self.active_count} requests run and {self.waiting_count} wait; try again later", retry_after_s=1.0
            )
        await self._wait(priority, timeout_s)

    async def _wait(self, priority: int, timeout_s: float) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (-priority, next(self._order), place))
        self.waiting_count += 1
        try:
            async with asyncio.timeout(min(timeout_s, self._max_wait_s)):
                await place
        except TimeoutError:
            self._give_up(place)
            if timeout_s <= self._max_wait_s:
                raise DeadlineExceeded("the deadline passed while waiting for a place") from None
            raise Overloaded(f"no place within {self._max_wait_s:g} s; try again later", retry_after_s=1.0) from None
        except asyncio.CancelledError:
            self._give_up(place)
            raise
        finally:
            self.waiting_count -= 1

    def _give_up(self, place: asyncio.Future[None]) -> None:
        """Stop waiting; a place that was given in the same moment goes to the next."""
        if place.done() and not place.cancelled():
            self._leave()
        place.cancel()
        if len(self._queue) > 2 * self._max_waiting:
            self._queue = [entry for entry in self._queue if not entry[2].done()]
            heapq.heapify(self._queue)

    def _leave(self) -> None:
        """Hand the place to the next in line, or free it."""
        while self._queue:
            _, _, place = heapq.heappop(self._queue)
            if not place.done():
                place.set_result(None)
                return
        self.active_count -= 1
