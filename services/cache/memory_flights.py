"""Flights in this process: for a cache that has no shared server, and while that server is away."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshkit.clock import Clock
from services.cache.flight import FlightTimes, Joined, Lease, LostLease, Page, Phase, new_flight
from services.cache.tier import TierUnavailable


@dataclass(slots=True, kw_only=True)
class _Flight:
    name: bytes
    until: float
    """Monotonic seconds: of the lease, and once finished, of the flight."""
    forgotten_at: float
    term: int = 1
    is_followed: bool = False
    events: list[bytes] = field(default_factory=list)
    size_bytes: int = 0
    final: bytes | None = None


class MemoryFlights:
    """A FlightStore of at most `max_bytes` of events; a flight that would go over it ends."""

    def __init__(self, times: FlightTimes, clock: Clock, *, max_bytes: int) -> None:
        self._times = times
        self._clock = clock
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._flights: dict[bytes, _Flight] = {}

    async def watch(self) -> None:
        """It is always here."""

    async def close(self) -> None: ...

    async def join(self, key: bytes, *, follows_finished: bool) -> Joined:
        now = self._clock.now()
        self._forget_old(now)
        flight = self._flights.get(key)
        if flight is not None and self._can_be_followed(flight, now, follows_finished):
            flight.is_followed = True
            return Joined(lease=Lease(flight=flight.name, term=flight.term), leads=False)
        return Joined(lease=self._begin(key, now), leads=True)

    async def claim(self, key: bytes) -> Lease | None:
        now = self._clock.now()
        self._forget_old(now)
        flight = self._flights.get(key)
        if flight is not None and self._can_be_followed(flight, now, follows_finished=True):
            return None
        return self._begin(key, now)

    async def append(self, key: bytes, lease: Lease, first: int, events: tuple[bytes, ...]) -> bool:
        flight = self._led(key, lease)
        if first > len(flight.events):
            raise LostLease
        new = events[len(flight.events) - first :]
        added = sum(map(len, new))
        if self._size_bytes + added > self._max_bytes:
            self._forget(key)
            raise TierUnavailable("flights take all the memory that they may")
        flight.events += new
        flight.size_bytes += added
        self._size_bytes += added
        self._renew(flight)
        return flight.is_followed

    async def finish(self, key: bytes, lease: Lease, final: bytes) -> None:
        flight = self._led(key, lease)
        flight.final = final
        flight.until = flight.forgotten_at = self._clock.now() + self._times.linger_s

    async def release(self, key: bytes, lease: Lease) -> None:
        try:
            flight = self._led(key, lease)
        except LostLease:
            return
        if flight.is_followed:
            flight.until = self._clock.now()
        else:
            self._forget(key)

    async def take_over(self, key: bytes, lease: Lease) -> Lease | None:
        flight = self._flights.get(key)
        if flight is None or (flight.name, flight.term) != (lease.flight, lease.term) or not self._is_vacant(flight):
            return None
        flight.term += 1
        self._renew(flight)
        return Lease(flight=flight.name, term=flight.term)

    async def read(self, key: bytes, flight: bytes, from_event: int) -> Page:
        self._forget_old(self._clock.now())
        there = self._flights.get(key)
        if there is None or there.name != flight:
            return Page(phase=Phase.GONE)
        phase = Phase.VACANT if self._is_vacant(there) else Phase.LED
        if there.final is not None:
            phase = Phase.FINISHED
        return Page(phase=phase, term=there.term, events=tuple(there.events[from_event:]), final=there.final or b"")

    def _begin(self, key: bytes, now: float) -> Lease:
        self._forget(key)
        flight = _Flight(name=new_flight(), until=now + self._times.ttl_s, forgotten_at=now + self._times.keep_s)
        self._flights[key] = flight
        return Lease(flight=flight.name, term=flight.term)

    def _can_be_followed(self, flight: _Flight, now: float, follows_finished: bool) -> bool:
        if flight.final is not None:
            return follows_finished and flight.until > now
        return flight.until > now or flight.is_followed

    def _is_vacant(self, flight: _Flight) -> bool:
        return flight.final is None and flight.until <= self._clock.now()

    def _led(self, key: bytes, lease: Lease) -> _Flight:
        flight = self._flights.get(key)
        if flight is None or flight.final is not None or (flight.name, flight.term) != (lease.flight, lease.term):
            raise LostLease
        return flight

    def _renew(self, flight: _Flight) -> None:
        now = self._clock.now()
        flight.until, flight.forgotten_at = now + self._times.ttl_s, now + self._times.keep_s

    def _forget_old(self, now: float) -> None:
        for key in [key for key, flight in self._flights.items() if flight.forgotten_at <= now]:
            self._forget(key)

    def _forget(self, key: bytes) -> None:
        flight = self._flights.pop(key, None)
        if flight is not None:
            self._size_bytes -= flight.size_bytes
