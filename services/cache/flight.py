"""One generation shared by all who ask the same at once: who leads, what it has made so far, who goes on if it ends.

A flight is the log of one answer while it is made. Exactly one request leads it and appends events; any number follow
by reading. The right to lead is a lease with a time to live; its term counts leaders, so that one that was replaced
can append nothing more. A new leader goes on where the log ends. A finished flight stays readable for a moment, so
that whoever comes between the answer and its place in the tiers does not generate it again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

_FLIGHT_BYTES = 16


class Phase(Enum):
    """What a reader of the log finds."""

    LED = "led"
    VACANT = "vacant"
    """The leader's lease has run out or was given back: a follower may take over."""
    FINISHED = "finished"
    GONE = "gone"
    """There is no such flight, or not any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to lead a flight, while it lasts; for a follower, the name of what it follows."""

    flight: bytes
    """Random: two flights of one key are never mixed up."""
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What a request became."""

    lease: Lease
    leads: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The log from some event on."""

    phase: Phase
    term: int = 0
    events: tuple[bytes, ...] = ()
    final: bytes = b""
    """With FINISHED: how the answer ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightTimes:
    """Seconds."""

    ttl_s: float = 3.0
    """A leader that says nothing for so long is replaced."""
    linger_s: float = 5.0
    """How long a finished flight can be followed."""
    keep_s: float = 60.0
    """How long a flight without a leader is kept for a follower to take over."""


class LostLease(Exception):
    """Another leads now, or the flight is gone: what was appended is not in the log."""


class FlightStore(Protocol):
    """Where flights are. Keys are bytes; every method is atomic. Raises TierUnavailable where the place is gone."""

    async def watch(self) -> None:
        """Keep in touch with the place. Runs until cancelled, or returns where there is nothing to keep."""
        ...

    async def close(self) -> None: ...

    async def join(self, key: bytes, *, follows_finished: bool) -> Joined:
        """Lead a new flight, or follow the one there is. `follows_finished` False: a finished one is replaced."""
        ...

    async def claim(self, key: bytes) -> Lease | None:
        """Lead a new flight; None where there is one that `join` would follow, which does not hear of this."""
        ...

    async def append(self, key: bytes, lease: Lease, first: int, events: tuple[bytes, ...]) -> bool:
        """Renew the lease and make these the log's events from number `first` on; whether anybody follows.

        Events that are there already are passed over, so a call whose reply was lost can be made again. Raises
        LostLease, also where there would be a gap.
        """
        ...

    async def finish(self, key: bytes, lease: Lease, final: bytes) -> None:
        """The answer is whole. Raises LostLease."""
        ...

    async def release(self, key: bytes, lease: Lease) -> None:
        """Give the lease back: a follower takes over at once; nothing happens if it was lost."""
        ...

    async def take_over(self, key: bytes, lease: Lease) -> Lease | None:
        """Lead a VACANT flight, if its term is still the one that was read; None if another was faster."""
        ...

    async def read(self, key: bytes, flight: bytes, from_event: int) -> Page:
        """The log from that event on, and how things stand."""
        ...


def new_flight() -> bytes:
    """The name of a new flight."""
    return secrets.token_bytes(_FLIGHT_BYTES)
