"""One reading of a flight for all requests of this router that follow it, so that their number costs the cache nothing.

It goes on while anybody follows, and ends with the last of them. A reading that fails is tried once more from where it
was, perhaps at another instance of the cache.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, replace

from meshkit.coalescing import Piece
from meshkit.errors import BackendDown, MeshError
from meshkit.incoming import current_call, set_current_call
from meshkit.shared_log import SharedLog
from services.router.ports import Cache, FollowEvent, Landed, Lease, Takeover

_ATTEMPTS = 2
_Name = tuple[str, str]


@dataclass(slots=True, kw_only=True)
class _Followed:
    """A flight that is read."""

    reading: asyncio.Task[None]
    log: SharedLog[FollowEvent]
    follower_count: int = 0


class Following:
    """Flights that requests of this router follow, by tenant and lease."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self._followed: dict[_Name, _Followed] = {}

    async def events(self, lease: Lease) -> AsyncGenerator[FollowEvent, None]:
        """The answer from its first piece; ends with Landed, or for one of the followers with Takeover.

        Raises the MeshError that ended the reading.
        """
        with self._followed_flight((current_call().tenant, lease.id), lease) as followed:
            async with contextlib.aclosing(followed.log.read()) as events:
                async for event in events:
                    yield event

    @contextlib.contextmanager
    def _followed_flight(self, name: _Name, lease: Lease) -> Iterator[_Followed]:
        followed = self._followed.get(name) or self._begin(name, lease)
        followed.follower_count += 1
        try:
            yield followed
        finally:
            followed.follower_count -= 1
            if followed.follower_count == 0:
                followed.reading.cancel()
                if self._followed.get(name) is followed:
                    del self._followed[name]

    def _begin(self, name: _Name, lease: Lease) -> _Followed:
        log: SharedLog[FollowEvent] = SharedLog()
        followed = _Followed(reading=asyncio.create_task(self._read(name, lease, log)), log=log)
        self._followed[name] = followed
        return followed

    async def _read(self, name: _Name, lease: Lease, log: SharedLog[FollowEvent]) -> None:
        # In the name of the first follower, but not only for as long as that one can wait.
        set_current_call(replace(current_call(), deadline_at=None))
        try:
            await self._read_to_end(lease, log)
            log.end()
        except MeshError as error:
            # Who comes now asks the cache anew.
            self._followed.pop(name, None)
            log.end(error)

    async def _read_to_end(self, lease: Lease, log: SharedLog[FollowEvent]) -> None:
        failures = 0
        while True:
            try:
                last = await self._read_once(lease, log)
            except MeshError:
                failures += 1
                if failures == _ATTEMPTS:
                    raise
                continue
            if isinstance(last, Landed):
                log.extend([last])
                return
            # One of the followers goes on with the answer, and the others with reading.
            log.offer(last)

    async def _read_once(self, lease: Lease, log: SharedLog[FollowEvent]) -> Landed | Takeover:
        async with self.cache.follow(lease, len(log)) as events:
            async for event in events:
                if not isinstance(event, Piece):
                    return event
                log.extend([event])
        raise BackendDown("the cache ended a flight without saying how")
