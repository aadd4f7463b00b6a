"""The order of look-up over the tiers, what a found entry must satisfy, and who gets a copy.

Tiers are asked from the fastest on. A tier that is down, too slow or holds rubbish is passed over and counted; what a
later tier has is copied into the earlier ones. An entry that is too old or stale in one tier may be newer in the next,
which other instances fill too; a stale one is only given where no tier has a fresh one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from meshkit.clock import Clock
from meshkit.together import Together
from services.cache.entry import Entry, Unreadable
from services.cache.latency import Latency
from services.cache.tier import UNKNOWN, Store, TierSize, TierUnavailable
from services.cache.write_behind import WriteBehind

_NOWHERE = "absent"


class TierName(IntEnum):
    """The tiers, fastest first; the numbers are the contract's."""

    L1 = 1
    L2 = 2
    L3 = 3


@dataclass(slots=True, kw_only=True)
class Counters:
    """What happened at one tier since the start of this process."""

    lookup_count: int = 0
    """Look-ups that the tier answered."""
    hit_count: int = 0
    unreadable_count: int = 0
    error_count: int = 0
    """Look-ups and writes that failed, came too late or were not tried."""
    hit_bytes: int = 0
    """Bytes of the entries that were hit."""
    latency: Latency = field(default_factory=Latency)
    """Of the look-ups that the tier answered or failed to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One tier in its place."""

    name: TierName
    store: Store
    writes: WriteBehind | None = None
    """Where writing takes time: the queue in front of the store."""
    counters: Counters = field(default_factory=Counters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A usable entry."""

    entry: Entry
    tier: TierName
    age_s: float
    is_stale: bool = False
    """Its time to live has passed: it may be served while one caller generates it anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """No usable entry. Reasons: absent, expired, too old, unreadable, or an objection."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TierReport:
    """One tier's counters and size."""

    name: TierName
    counters: Counters
    size: TierSize


class TieredStore:
    """All tiers as one. `levels` are in the order of look-up; `objection` says why an entry must not be served.

    The first is in memory and asked by everybody; however many ask at once, the others are asked once.
    """

    def __init__(
        self, levels: Sequence[Level], clock: Clock, objection: Callable[[bytes, Entry], str] = lambda key, entry: ""
    ) -> None:
        self._levels = tuple(levels)
        self._clock = clock
        self._objection = objection
        self._looking: Together[tuple[bytes, float | None, bool], Found | Absent] = Together()

    @property
    def levels(self) -> tuple[Level, ...]:
        """The tiers, fastest first."""
        return self._levels

    async def lookup(self, key: bytes, *, max_age_s: float | None = None) -> Found | Absent:
        """The first fresh entry, else the first stale one. Never raises for a tier's sake."""
        near = await self._search(self._levels[:1], key, max_age_s)
        if len(self._levels) == 1 or (isinstance(near, Found) and not near.is_stale):
            return await self._taken(key, near)
        question = (key, max_age_s, isinstance(near, Found))
        return await self._looking.ask(question, lambda: self._lookup_far(key, max_age_s, near))

    async def _lookup_far(self, key: bytes, max_age_s: float | None, near: Found | Absent) -> Found | Absent:
        return await self._taken(key, _better(near, await self._search(self._levels[1:], key, max_age_s)))

    async def _search(self, levels: Sequence[Level], key: bytes, max_age_s: float | None) -> Found | Absent:
        best: Found | Absent = Absent(reason=_NOWHERE)
        for level in levels:
            best = _better(best, await self._ask(level, key, max_age_s))
            if isinstance(best, Found) and not best.is_stale:
                break
        return best

    async def commit(self, key: bytes, entry: Entry) -> None:
        """Store in every tier; a tier that can't take it is counted."""
        for level in self._levels:
            await self._copy(level, key, entry)

    async def place(self, key: bytes, entry: Entry) -> None:
        """Store in every tier, and wait for each, instead of queueing where writing takes time."""
        for level in self._levels:
            try:
                await level.store.put(key, entry)
            except TierUnavailable:
                level.counters.error_count += 1

    async def discard(self, found: Found, key: bytes) -> None:
        """Forget an entry that could be decoded but not understood, in every tier, and count it where it was found."""
        for level in self._levels:
            if level.name is found.tier:
                level.counters.unreadable_count += 1
            try:
                await level.store.delete(key)
            except TierUnavailable:
                level.counters.error_count += 1

    def counters(self) -> list[tuple[TierName, Counters]]:
        """Counters of each tier, now."""
        return [(level.name, _with_failed_writes(level)) for level in self._levels]

    async def report(self) -> list[TierReport]:
        """Counters and sizes; sizes are UNKNOWN where a tier does not answer."""
        return [
            TierReport(name=level.name, counters=_with_failed_writes(level), size=await _size(level.store))
            for level in self._levels
        ]

    async def _ask(self, level: Level, key: bytes, max_age_s: float | None) -> Found | Absent:
        started_at = self._clock.now()
        try:
            entry = await level.store.get(key)
        except TierUnavailable:
            level.counters.error_count += 1
            return Absent(reason=_NOWHERE)
        except Unreadable:
            level.counters.lookup_count += 1
            level.counters.unreadable_count += 1
            return Absent(reason="unreadable")
        finally:
            level.counters.latency.add(self._clock.now() - started_at)
        level.counters.lookup_count += 1
        if entry is None:
            return Absent(reason=_NOWHERE)
        if objection := self._objection(key, entry):
            return Absent(reason=objection)
        return self._judge(level, entry, max_age_s)

    def _judge(self, level: Level, entry: Entry, max_age_s: float | None) -> Found | Absent:
        wall = self._clock.wall()
        # Clocks of several machines differ: an entry from the near future is new.
        age_s = max(0.0, wall - entry.stored_at)
        if entry.expires_at <= wall:
            return Absent(reason="expired")
        if max_age_s is not None and age_s > max_age_s:
            return Absent(reason="too old")
        return Found(entry=entry, tier=level.name, age_s=age_s, is_stale=entry.fresh_until <= wall)

    async def _taken(self, key: bytes, found: Found | Absent) -> Found | Absent:
        """The same; a hit is counted, and copied into the faster tiers."""
        if isinstance(found, Absent):
            return found
        for level in self._levels:
            if level.name < found.tier:
                await self._copy(level, key, found.entry)
            elif level.name is found.tier:
                level.counters.hit_count += 1
                level.counters.hit_bytes += found.entry.size_bytes
        return found

    async def _copy(self, level: Level, key: bytes, entry: Entry) -> None:
        if level.writes is not None:
            level.writes.offer(key, entry)
            return
        try:
            await level.store.put(key, entry)
        except TierUnavailable:
            level.counters.error_count += 1


def _better(earlier: Found | Absent, later: Found | Absent) -> Found | Absent:
    """What an earlier and a later tier said: fresh before stale before a reason that says more than "absent"."""
    if isinstance(later, Found):
        return later if isinstance(earlier, Absent) or not later.is_stale else earlier
    return earlier if isinstance(earlier, Found) or later.reason == _NOWHERE else later


def _with_failed_writes(level: Level) -> Counters:
    failed_count = level.writes.failed_count if level.writes is not None else 0
    return replace(level.counters, error_count=level.counters.error_count + failed_count)


async def _size(store: Store) -> TierSize:
    try:
        return await store.size()
    except TierUnavailable:
        return TierSize(entry_count=UNKNOWN, size_bytes=UNKNOWN, budget_bytes=UNKNOWN, eviction_count=UNKNOWN)
