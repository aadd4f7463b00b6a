"""Who of those that ask the same generates, for the servicer: joins, keeps, follows and ends flights by lease id.

Flights are shared where there is a server for that, and are this process's own where there is none or while it does
not answer. A lease id names the place, the digest, the flight and the term, and never the tenant: whose flight it is
comes from the caller's identity.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

from meshkit.clock import Clock
from meshkit.errors import InvalidRequest
from meshkit.together import Together
from services.cache.flight import FlightStore, FlightTimes, Joined, Lease
from services.cache.tier import TierUnavailable
from services.cache.watch_flight import Event, Final, FlightWatch, Takeover

_SHARED, _LOCAL = "s", "l"
_FORM = "as Lookup or Follow gave it"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightTicket:
    """A request's part in a flight."""

    lease_id: str
    leads: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """A follower leads now."""

    lease_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseId:
    """A lease id taken apart."""

    place: str
    digest: bytes
    lease: Lease

    def __str__(self) -> str:
        return f"{self.place}.{self.digest.hex()}.{self.lease.flight.hex()}.{self.lease.term}"

    @classmethod
    def parse(cls, text: str) -> LeaseId:
        """Raises InvalidRequest."""
        try:
            place, digest, flight, term = text.split(".")
            found = cls(
                place=place, digest=bytes.fromhex(digest), lease=Lease(flight=bytes.fromhex(flight), term=int(term))
            )
        except ValueError:
            raise InvalidRequest("is not a lease", field="lease_id", limit=_FORM) from None
        if place not in (_SHARED, _LOCAL):
            raise InvalidRequest("is not a lease", field="lease_id", limit=_FORM)
        return found


@dataclass(slots=True, kw_only=True)
class _Watched:
    watch: FlightWatch
    reading: asyncio.Task[None]
    follower_count: int = 0


class SingleFlight:
    """Flights by lease id. `key_of(digest)` gives the place of the caller's flights, see `ResponseCache`."""

    def __init__(
        self, *, shared: FlightStore | None, local: FlightStore, times: FlightTimes, clock: Clock, poll_s: float
    ) -> None:
        self._shared = shared
        self._local = local
        self._times = times
        self._clock = clock
        self._poll_s = poll_s
        self._joining: Together[tuple[bytes, bool], tuple[str, Joined]] = Together()
        self._watched: dict[tuple[str, bytes, bytes], _Watched] = {}

    @property
    def ttl_s(self) -> float:
        """A lease ends so long after it was last renewed."""
        return self._times.ttl_s

    @property
    def linger_s(self) -> float:
        """A finished answer can be followed for so long."""
        return self._times.linger_s

    async def watch(self) -> None:
        """Keep in touch with the shared place. Runs until cancelled."""
        if self._shared is not None:
            await self._shared.watch()

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()

    async def join(self, key: bytes, digest: bytes, *, follows_finished: bool) -> FlightTicket:
        """Lead or follow. Those that come at once ask for the lead once; whoever did not get it asks to follow."""
        while True:
            question = functools.partial(self._join, key, follows_finished)
            (place, joined), is_own = await self._joining.ask_once((key, follows_finished), question)
            if is_own or not joined.leads:
                lease_id = LeaseId(place=place, digest=digest, lease=joined.lease)
                return FlightTicket(lease_id=str(lease_id), leads=joined.leads)

    async def claim(self, key: bytes, digest: bytes) -> str | None:
        """The id of a lease where nobody leads; None otherwise, and nobody becomes a follower."""
        place, lease = await self._claim(key)
        return None if lease is None else str(LeaseId(place=place, digest=digest, lease=lease))

    async def append(self, key: bytes, lease_id: LeaseId, first: int, events: tuple[bytes, ...]) -> bool:
        """Add to the log, renew the lease; whether anybody follows. Raises LostLease, TierUnavailable."""
        return await self._store(lease_id.place).append(key, lease_id.lease, first, events)

    async def finish(self, key: bytes, lease_id: LeaseId, final: bytes) -> None:
        """The answer is whole. Raises LostLease, TierUnavailable."""
        await self._store(lease_id.place).finish(key, lease_id.lease, final)

    async def release(self, key: bytes, lease_id: LeaseId) -> None:
        """Let a follower lead. A store that is away forgets the lease by itself."""
        with contextlib.suppress(TierUnavailable):
            await self._store(lease_id.place).release(key, lease_id.lease)

    async def follow(
        self, key: bytes, lease_id: LeaseId, from_event: int
    ) -> AsyncGenerator[Event | Final | Handover, None]:
        """The log from this event on. Raises FlightGone."""
        with self._watching(key, lease_id) as watch:
            async with contextlib.aclosing(watch.follow(from_event)) as entries:
                async for entry in entries:
                    yield self._handover(lease_id, entry) if isinstance(entry, Takeover) else entry

    async def _join(self, key: bytes, follows_finished: bool) -> tuple[str, Joined]:
        if self._shared is not None:
            with contextlib.suppress(TierUnavailable):
                return _SHARED, await self._shared.join(key, follows_finished=follows_finished)
        return _LOCAL, await self._local.join(key, follows_finished=follows_finished)

    async def _claim(self, key: bytes) -> tuple[str, Lease | None]:
        if self._shared is not None:
            with contextlib.suppress(TierUnavailable):
                return _SHARED, await self._shared.claim(key)
        return _LOCAL, await self._local.claim(key)

    def _store(self, place: str) -> FlightStore:
        if place == _LOCAL:
            return self._local
        if self._shared is None:
            raise TierUnavailable("this instance shares no flights")
        return self._shared

    @contextlib.contextmanager
    def _watching(self, key: bytes, lease_id: LeaseId) -> Iterator[FlightWatch]:
        name = (lease_id.place, key, lease_id.lease.flight)
        watched = self._watched.get(name) or self._begin(name)
        watched.follower_count += 1
        try:
            yield watched.watch
        finally:
            watched.follower_count -= 1
            if watched.follower_count == 0:
                watched.reading.cancel()
                self._watched.pop(name, None)

    def _begin(self, name: tuple[str, bytes, bytes]) -> _Watched:
        place, key, flight = name
        watch = FlightWatch(self._store(place), key, flight, clock=self._clock, poll_s=self._poll_s)
        reading = asyncio.create_task(watch.run(patience_s=self._times.ttl_s))
        self._watched[name] = watched = _Watched(watch=watch, reading=reading)
        return watched

    @staticmethod
    def _handover(lease_id: LeaseId, entry: Takeover) -> Handover:
        return Handover(lease_id=str(LeaseId(place=lease_id.place, digest=lease_id.digest, lease=entry.lease)))
