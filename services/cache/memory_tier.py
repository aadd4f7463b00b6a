"""The first tier: entries in this process, at most so many bytes of them, the least worth keeping out first.

Worth is GreedyDual-Size-Frequency (Cherkasova 1998): hits per byte, plus the worth that had to go when the entry was
last asked for, so that former fame fades. The worst of a small random sample goes, which costs no order of entries; the
worth that had to go is averaged, since a sample's worst is at times quite good.

The budget counts what an entry really occupies: its bytes as CPython and malloc hold them, and `ENTRY_OVERHEAD_BYTES`
for everything else (measured by `python -m benchmarks.cache --only l1_million_entries`).
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Sequence

import msgspec

from meshkit.clock import Clock
from services.cache.entry import Entry
from services.cache.lifetime import TierLifetime
from services.cache.tier import Swept, TierSize

ENTRY_OVERHEAD_BYTES = 400
"""The struct, its floats and numbers, and its places in the dict and the list."""
_BYTES_HEADER = 33
_STR_HEADER = 49
_SAMPLE_COUNT = 16
_FADING = 0.05
_ENTRIES_A_TURN = 256


class _Held(msgspec.Struct, gc=False):
    """One entry, flat and unknown to the garbage collector: a million of them must not be walked by it."""

    key: bytes
    payload: bytes
    stored_at: float
    fresh_until: float
    expires_at: float
    epoch: int
    revision: str
    tags: tuple[str, ...]
    dies_at: float
    """When this tier lets go of it, on the monotonic clock."""
    cost_bytes: int
    hit_count: int
    worth: float
    position: int


class MemoryTier:
    """Entries under a byte budget and a time to live. Never raises TierUnavailable."""

    def __init__(
        self,
        *,
        budget_bytes: int,
        lifetime: TierLifetime,
        clock: Clock,
        draw: Callable[[int], int] = random.randrange,
    ) -> None:
        """`draw` gives a number under its argument, all alike."""
        self._budget_bytes = budget_bytes
        self._lifetime = lifetime
        self._clock = clock
        self._draw = draw
        self._size_bytes = 0
        self._eviction_count = 0
        self._faded_worth = 0.0
        self._by_key: dict[bytes, _Held] = {}
        self._all: list[_Held] = []

    @property
    def entry_count(self) -> int:
        """Entries, expired ones too."""
        return len(self._all)

    @property
    def size_bytes(self) -> int:
        """Bytes with all that holding them costs."""
        return self._size_bytes

    @property
    def eviction_count(self) -> int:
        """Entries that had to go for others, since the start."""
        return self._eviction_count

    async def get(self, key: bytes) -> Entry | None:
        """The entry, which then is worth more; expired ones are dropped."""
        held = self._by_key.get(key)
        if held is None:
            return None
        if held.dies_at <= self._clock.now():
            self._drop(held)
            return None
        held.hit_count += 1
        held.worth = self._faded_worth + held.hit_count / held.cost_bytes
        return _entry(held)

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep it for the tier's time to live or what remains of its own; not if it is expired or over the budget."""
        before = self._by_key.get(key)
        if before is not None:
            self._drop(before)
        lives_s = self._lifetime.seconds(entry.expires_at - self._clock.wall())
        cost_bytes = _cost_bytes(key, entry)
        if lives_s <= 0 or cost_bytes > self._budget_bytes:
            return
        while self._size_bytes + cost_bytes > self._budget_bytes:
            self.evict()
        hit_count = 1 if before is None else before.hit_count
        worth = self._faded_worth + hit_count / cost_bytes
        held = _held(key, entry, self._clock.now() + lives_s, cost_bytes, hit_count, worth, len(self._all))
        self._by_key[key] = held
        self._all.append(held)
        self._size_bytes += cost_bytes

    async def delete(self, key: bytes) -> None:
        held = self._by_key.get(key)
        if held is not None:
            self._drop(held)

    async def size(self) -> TierSize:
        return TierSize(
            entry_count=len(self._all),
            size_bytes=self._size_bytes,
            budget_bytes=self._budget_bytes,
            eviction_count=self._eviction_count,
        )

    async def sweep(self, prefix: bytes, matches: Callable[[bytes, Entry], bool], *, apply: bool) -> Swept:
        entry_count = size_bytes = 0
        # From the end: what fills a gap comes from there, so nothing that was not yet seen moves out of the way.
        position = len(self._all)
        while position > 0:
            first = max(0, position - _ENTRIES_A_TURN)
            for held in self._all[first:position]:
                if held.key.startswith(prefix) and matches(held.key, _entry(held)):
                    entry_count += 1
                    size_bytes += _entry(held).size_bytes
                    if apply and self._by_key.get(held.key) is held:
                        self._drop(held)
            await asyncio.sleep(0)
            position = min(first, len(self._all))
        return Swept(entry_count=entry_count, size_bytes=size_bytes)

    def tidy(self) -> None:
        """Drop what has expired in a small sample."""
        now = self._clock.now()
        for held in {held.key: held for held in self._sample()}.values():
            if held.dies_at <= now:
                self._drop(held)

    def evict(self) -> None:
        """Let one entry go, the least worth keeping of a sample. There must be one."""
        now = self._clock.now()
        sample = self._sample()
        expired = next((held for held in sample if held.dies_at <= now), None)
        if expired is not None:
            self._drop(expired)
            return
        worst = min(sample, key=_worth)
        self._faded_worth += max(0.0, worst.worth - self._faded_worth) * _FADING
        self._drop(worst)
        self._eviction_count += 1

    def _sample(self) -> Sequence[_Held]:
        count = len(self._all)
        if count <= _SAMPLE_COUNT:
            return self._all
        return [self._all[self._draw(count)] for _ in range(_SAMPLE_COUNT)]

    def _drop(self, held: _Held) -> None:
        del self._by_key[held.key]
        last = self._all.pop()
        if last is not held:
            self._all[held.position] = last
            last.position = held.position
        self._size_bytes -= held.cost_bytes


def _held(
    key: bytes, entry: Entry, dies_at: float, cost_bytes: int, hit_count: int, worth: float, position: int
) -> _Held:
    return _Held(
        key,
        entry.payload,
        entry.stored_at,
        entry.fresh_until,
        entry.expires_at,
        entry.epoch,
        # Many entries have the same few: one object for all of them.
        sys.intern(entry.revision),
        entry.tags,
        dies_at,
        cost_bytes,
        hit_count,
        worth,
        position,
    )


def _entry(held: _Held) -> Entry:
    return Entry(
        payload=held.payload,
        stored_at=held.stored_at,
        fresh_until=held.fresh_until,
        expires_at=held.expires_at,
        epoch=held.epoch,
        revision=held.revision,
        tags=held.tags,
    )


def _worth(held: _Held) -> float:
    return held.worth


def _cost_bytes(key: bytes, entry: Entry) -> int:
    tags = sum(_allocated(_STR_HEADER + len(tag)) + 8 for tag in entry.tags)
    return (
        ENTRY_OVERHEAD_BYTES
        + _allocated(_BYTES_HEADER + len(key))
        + _allocated(_BYTES_HEADER + len(entry.payload))
        + tags
    )


def _allocated(size_bytes: int) -> int:
    """What malloc takes for so many: its header, in steps of 16."""
    return (size_bytes + 8 + 15) // 16 * 16
