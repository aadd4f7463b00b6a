"""What a leader tells those who follow: the pieces of its answer, in batches, which also keep its lease.

While nobody follows, the lease is renewed now and then; once somebody does, pieces go out soon after they come. A
lease that is lost is not fought for: the request goes on for its own caller.
"""

from __future__ import annotations

import asyncio

from meshkit.clock import Clock
from meshkit.coalescing import Piece
from meshkit.errors import BackendDown, MeshError
from services.router.ports import Cache, Lease

FOLLOWED_REST_S = 0.04
LONGEST_REST_S = 0.5


class Publication:
    """The pieces of one led answer on their way into the log, which has `first` pieces already. Starts at once."""

    def __init__(self, cache: Cache, lease: Lease, *, first: int, clock: Clock) -> None:
        self._cache = cache
        self._lease = lease
        self._told_count = first
        self._clock = clock
        self._began_at = clock.now()
        self._waiting: list[tuple[float, Piece]] = []
        self._is_lost = False
        self._running = asyncio.create_task(self._run())

    @property
    def lease(self) -> Lease | None:
        """The lease to end with the commit; None where it was lost."""
        return None if self._is_lost else self._lease

    def put(self, piece: Piece) -> None:
        """The engine gave another piece."""
        self._waiting.append((self._clock.now() - self._began_at, piece))

    async def close(self) -> None:
        """Tell what was not told yet; the log has the whole answer then, or the lease is lost."""
        await self._stop()
        if self._waiting and not self._is_lost:
            try:
                await self._tell()
            except MeshError:
                self._is_lost = True

    async def abandon(self) -> None:
        """Give the lease back: somebody else goes on where the log ends. Raises MeshError."""
        await self._stop()
        if not self._is_lost:
            self._is_lost = True
            await self._cache.abandon(self._lease)

    async def _stop(self) -> None:
        self._running.cancel()
        await asyncio.wait({self._running})

    async def _run(self) -> None:
        rest_s = FOLLOWED_REST_S
        while not self._is_lost:
            await self._clock.sleep(rest_s)
            try:
                is_followed = await self._tell()
            except BackendDown:
                continue  # the same pieces again, under the same numbers
            except MeshError:
                self._is_lost = True
                return
            rest_s = FOLLOWED_REST_S if is_followed else min(2 * rest_s, LONGEST_REST_S)

    async def _tell(self) -> bool:
        count = len(self._waiting)
        is_followed = await self._cache.renew(self._lease, self._told_count, tuple(self._waiting))
        del self._waiting[:count]
        self._told_count += count
        return is_followed
