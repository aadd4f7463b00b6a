"""The changes of the prefix cache, numbered, for those who follow it: resumed where they left off, or a snapshot.

Numbers rise by one with each event. They begin where no earlier life of this process can have come to, so a follower
that resumes with a number of an earlier life gets a snapshot, never a gap. Only the latest events are kept, for all
followers together: who falls behind further than that gets a snapshot too, and nothing piles up for anybody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from services.inference.changes import Watched

MOST_HASHES_KEPT = 65_536
MOST_EVENTS_KEPT = 4_096
_NUMBERS_PER_S = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KvEvent:
    """One change. A snapshot has the number of the last change that it holds."""

    number: int
    kind: Literal["snapshot", "stored", "evicted"]
    block_hashes: tuple[int, ...]


class KvEventLog:
    """What is stored now, and how it came to be."""

    def __init__(
        self, *, wall_s: float, most_hashes: int = MOST_HASHES_KEPT, most_events: int = MOST_EVENTS_KEPT
    ) -> None:
        self._most_hashes, self._most_events = most_hashes, most_events
        self._stored: dict[int, None] = {}
        self._events: deque[KvEvent] = deque()
        self._kept_hashes = 0
        self._latest = Watched(int(wall_s * _NUMBERS_PER_S))

    def note(self, *, stored: Sequence[int], evicted: Sequence[int]) -> None:
        """The engine's cache changed."""
        for block_hash in evicted:
            self._stored.pop(block_hash, None)
        self._stored.update(dict.fromkeys(stored))
        self._append("evicted", evicted)
        self._append("stored", stored)

    def clear(self) -> None:
        """The engine is gone, and its cache with it."""
        self.note(stored=(), evicted=tuple(self._stored))

    def after(self, number: int | None) -> list[KvEvent]:
        """What happened behind this number; one snapshot where it is None, or not among those that are kept."""
        latest = self._latest.value
        if number is None or not latest - len(self._events) <= number <= latest:
            return [KvEvent(number=latest, kind="snapshot", block_hashes=tuple(self._stored))]
        return list(islice(self._events, len(self._events) - (latest - number), None))

    async def changed(self) -> None:
        """Return at the next event."""
        await self._latest.changed()

    def _append(self, kind: Literal["stored", "evicted"], block_hashes: Sequence[int]) -> None:
        if not block_hashes:
            return
        number = self._latest.value + 1
        self._events.append(KvEvent(number=number, kind=kind, block_hashes=tuple(block_hashes)))
        self._kept_hashes += len(block_hashes)
        while len(self._events) > self._most_events or self._kept_hashes > self._most_hashes:
            self._kept_hashes -= len(self._events.popleft().block_hashes)
        self._latest.set(number)
