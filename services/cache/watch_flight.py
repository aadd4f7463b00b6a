"""One reader of a flight's log for all who follow it in this process, so that their number costs the store nothing.

It reads every `poll_s` while somebody follows. When the flight has no leader, one follower of each process tries to
take over; the store lets one of them win.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from meshkit.clock import Clock
from meshkit.shared_log import SharedLog
from services.cache.flight import FlightStore, Lease, Phase
from services.cache.tier import TierUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of the log."""

    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The answer is whole."""

    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """The reader leads now, and goes on where the log ends."""

    lease: Lease


class FlightGone(Exception):
    """The flight can't be followed any more: it is too old, was dropped, or its store is away."""


class FlightWatch:
    """The log of one flight as this process knows it. `run` must run while anybody follows."""

    def __init__(self, store: FlightStore, key: bytes, flight: bytes, *, clock: Clock, poll_s: float) -> None:
        self._store = store
        self._key = key
        self._flight = flight
        self._clock = clock
        self._poll_s = poll_s
        self._log: SharedLog[Event | Final | Takeover] = SharedLog()

    async def run(self, *, patience_s: float) -> None:
        """Read until the answer is whole or the flight gone; a store may be away for `patience_s`."""
        failure: Exception | None = FlightGone()
        last_read_at = self._clock.now()
        try:
            while self._clock.now() - last_read_at <= patience_s:
                with contextlib.suppress(TierUnavailable):
                    if await self._read_to_end():
                        failure = None
                        return
                    last_read_at = self._clock.now()
                await self._clock.sleep(self._poll_s)
        except FlightGone:
            return
        finally:
            self._log.end(failure)

    def follow(self, from_event: int) -> AsyncGenerator[Event | Final | Takeover, None]:
        """What is there from this event on, then what comes; ends with Final or Takeover. Raises FlightGone."""
        return self._log.read(from_event)

    async def _read_to_end(self) -> bool:
        """Read what is new; whether the answer is whole. Raises FlightGone."""
        page = await self._store.read(self._key, self._flight, len(self._log))
        if page.phase is Phase.GONE:
            raise FlightGone
        if page.events:
            self._log.extend(Event(payload=payload) for payload in page.events)
        if page.phase is Phase.FINISHED:
            self._log.extend([Final(payload=page.final)])
        elif page.phase is Phase.VACANT:
            lease = await self._store.take_over(self._key, Lease(flight=self._flight, term=page.term))
            if lease is not None:
                self._log.offer(Takeover(lease=lease))
        return page.phase is Phase.FINISHED
