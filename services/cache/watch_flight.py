"""One reader of a flight's log for all who follow it in this process, so that their number costs the store nothing.

It reads every `poll_s` while somebody follows. When the flight has no leader, one follower of each process tries to
take over; the store lets one of them win.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from meshkit.clock import Clock
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
        self._events: list[bytes] = []
        self._final: bytes | None = None
        self._takeover: Lease | None = None
        self._is_gone = False
        self._changed = asyncio.Event()

    async def run(self, *, patience_s: float) -> None:
        """Read until the answer is whole or the flight gone; a store may be away for `patience_s`."""
        last_read_at = self._clock.now()
        try:
            while self._final is None and not self._is_gone:
                try:
                    await self._read()
                    last_read_at = self._clock.now()
                except TierUnavailable:
                    self._is_gone = self._clock.now() - last_read_at > patience_s
                await self._clock.sleep(self._poll_s)
        finally:
            self._is_gone = self._final is None
            self._tell()

    async def follow(self, from_event: int) -> AsyncGenerator[Event | Final | Takeover, None]:
        """What is there from this event on, then what comes; ends with Final or Takeover. Raises FlightGone."""
        position = from_event
        while True:
            changed = self._changed
            while position < len(self._events):
                yield Event(payload=self._events[position])
                position += 1
            if self._final is not None:
                yield Final(payload=self._final)
                return
            if self._is_gone:
                raise FlightGone
            if self._takeover is not None:
                lease, self._takeover = self._takeover, None
                yield Takeover(lease=lease)
                return
            await changed.wait()

    async def _read(self) -> None:
        page = await self._store.read(self._key, self._flight, len(self._events))
        self._events += page.events
        if page.phase is Phase.FINISHED:
            self._final = page.final
        elif page.phase is Phase.GONE:
            self._is_gone = True
        elif page.phase is Phase.VACANT:
            self._takeover = await self._store.take_over(self._key, Lease(flight=self._flight, term=page.term))
        if page.events or page.phase is not Phase.LED:
            self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
