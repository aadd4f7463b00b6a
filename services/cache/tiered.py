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
from services.cache.entry import Entry, Unreadable
from services.cache.latency import Latency
from services.cache.tier import UNKNOWN, Store, TierSize, TierUnavailable
from services.cache.write_behind import WriteBehind


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
    """All tiers as one. `levels` are in the order of look-up; `objection` says why an entry must not be served."""

    def __init__(
        self, levels: Sequence[Level], clock: Clock, objection: Callable[[bytes, Entry], str] = lambda key, entry: ""
    ) -> None:
        self._levels = tuple(levels)
        self._clock = clock
        self._objection = objection

    @property
    def levels(self) -> tuple[Level, ...]:
        """The tiers, fastest first."""
        return self._levels

    async def lookup(self, key: bytes, *, max_age_s: float | None = None) -> Found | Absent:
        """The first fresh entry, else the first stale one. Never raises for a tier's sake."""
        reason = "absent"
        best: Found | None = None
        for level in self._levels:
            found, problem = await self._ask(level, key, max_age_s)
            if found is not None and (best is None or not found.is_stale):
                best = found
            if best is not None and not best.is_stale:
                break
            reason = problem or reason
        if best is None:
            return Absent(reason=reason)
        await self._take(key, best)
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

    async def _ask(self, level: Level, key: bytes, max_age_s: float | None) -> tuple[Found | None, str]:
        started_at = self._clock.now()
        try:
            entry = await level.store.get(key)
        except TierUnavailable:
            level.counters.error_count += 1
            return None, ""
        except Unreadable:
            level.counters.lookup_count += 1
            level.counters.unreadable_count += 1
            return None, "unreadable"
        finally:
            level.counters.latency.add(self._clock.now() - started_at)
        level.counters.lookup_count += 1
        if entry is None:
            return None, ""
        if objection := self._objection(key, entry):
            return None, objection
        return self._judge(level, entry, max_age_s)

    def _judge(self, level: Level, entry: Entry, max_age_s: float | None) -> tuple[Found | None, str]:
        wall = self._clock.wall()
        # Clocks of several machines differ: an entry from the near future is new.
        age_s = max(0.0, wall - entry.stored_at)
        if entry.expires_at <= wall:
            return None, "expired"
        if max_age_s is not None and age_s > max_age_s:
            return None, "too old"
        return Found(entry=entry, tier=level.name, age_s=age_s, is_stale=entry.fresh_until <= wall), ""

    async def _take(self, key: bytes, found: Found) -> None:
        """Count the hit, and copy the entry into the faster tiers."""
        for level in self._levels:
            if level.name < found.tier:
                await self._copy(level, key, found.entry)
            elif level.name is found.tier:
                level.counters.hit_count += 1
                level.counters.hit_bytes += found.entry.size_bytes

    async def _copy(self, level: Level, key: bytes, entry: Entry) -> None:
        if level.writes is not None:
            level.writes.offer(key, entry)
            return
        try:
            await level.store.put(key, entry)
        except TierUnavailable:
            level.counters.error_count += 1


def _with_failed_writes(level: Level) -> Counters:
    failed_count = level.writes.failed_count if level.writes is not None else 0
    return replace(level.counters, error_count=level.counters.error_count + failed_count)


async def _size(store: Store) -> TierSize:
    try:
        return await store.size()
    except TierUnavailable:
        return TierSize(entry_count=UNKNOWN, size_bytes=UNKNOWN, budget_bytes=UNKNOWN, eviction_count=UNKNOWN)
