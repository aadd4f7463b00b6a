"""The first tier: entries in this process, at most so many bytes of them, the least worth keeping out first.

Worth is GreedyDual-Size-Frequency (Cherkasova 1998): hits per byte, plus the worth that had to go when the entry was
last asked for, so that former fame fades. The worst of a small random sample goes, which costs no order of entries; the
worth that had to go is averaged, since a sample's worst is at times quite good.

The budget counts all that entries occupy: the memory of their payloads, the tables as they are, and per entry
`ENTRY_BYTES` for its objects (checked by `python -m benchmarks.cache --only l1_million_entries`).
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Sequence

import msgspec

from meshkit.clock import Clock
from services.cache.blocks import Blocks
from services.cache.entry import Entry
from services.cache.lifetime import TierLifetime
from services.cache.tier import Swept, TierSize

ENTRY_BYTES = 465
"""An entry's struct, floats and numbers, as CPython's allocator holds them; its key and tags come on top.

Between what they take in memory that was never used (about 430) and in memory that others have left holes in (500).
"""
_BYTES_HEADER = 33
_STR_HEADER = 49
_SAMPLE_COUNT = 32
_FADING = 0.05
_ENTRIES_A_TURN = 256


class _Held(msgspec.Struct, gc=False):
    """One entry, flat and unknown to the garbage collector: a million of them must not be walked by it."""

    key: bytes
    first_block: int
    payload_bytes: int
    stored_at: float
    fresh_until: float
    expires_at: float
    epoch: int
    revision: str
    tags: tuple[str, ...]
    dies_at: float
    """When this tier lets go of it, on the monotonic clock."""
    hit_count: int
    worth: float
    position: int

    @property
    def size_bytes(self) -> int:
        return self.payload_bytes + ENTRY_BYTES


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
        self._objects_bytes = 0
        self._eviction_count = 0
        self._faded_worth = 0.0
        self._by_key: dict[bytes, _Held] = {}
        self._all: list[_Held] = []
        self._blocks = Blocks(self._moved)

    @property
    def entry_count(self) -> int:
        """Entries, expired ones too."""
        return len(self._all)

    @property
    def size_bytes(self) -> int:
        """Memory that the entries occupy, with all that holding them costs."""
        tables_bytes = sys.getsizeof(self._by_key) + sys.getsizeof(self._all)
        return self._objects_bytes + self._blocks.occupied_bytes + tables_bytes

    @property
    def eviction_count(self) -> int:
        """Entries that had to go for others, since the start."""
        return self._eviction_count

    def give_back(self) -> bool:
        """Give back memory that no entry uses; False where there is none to give."""
        if not self._blocks.can_shrink:
            return False
        self._blocks.shrink()
        return True

    async def get(self, key: bytes) -> Entry | None:
        """The entry, which then is worth more; expired ones are dropped."""
        held = self._by_key.get(key)
        if held is None:
            return None
        if held.dies_at <= self._clock.now():
            self._drop(held)
            return None
        held.hit_count += 1
        held.worth = self._faded_worth + held.hit_count / held.size_bytes
        return self._entry(held)

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep it for the tier's time to live or what remains of its own; not if it is expired or over the budget."""
        before = self._by_key.get(key)
        if before is not None:
            self._drop(before)
        lives_s = self._lifetime.seconds(entry.expires_at - self._clock.wall())
        if lives_s > 0 and self._make_room(_objects_bytes(key, entry.tags), len(entry.payload)):
            self._keep(key, entry, self._clock.now() + lives_s, 1 if before is None else before.hit_count)

    async def delete(self, key: bytes) -> None:
        held = self._by_key.get(key)
        if held is not None:
            self._drop(held)

    async def size(self) -> TierSize:
        return TierSize(
            entry_count=len(self._all),
            size_bytes=self.size_bytes,
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
                if not held.key.startswith(prefix) or self._by_key.get(held.key) is not held:
                    continue
                entry = self._entry(held)
                if matches(held.key, entry):
                    entry_count += 1
                    size_bytes += entry.size_bytes
                    if apply and self._by_key.get(held.key) is held:
                        self._drop(held)
            await asyncio.sleep(0)
            position = min(first, len(self._all))
        return Swept(entry_count=entry_count, size_bytes=size_bytes)

    def _make_room(self, objects_bytes: int, payload_bytes: int) -> bool:
        """Evict as many as it takes; False where it can't be enough."""
        if objects_bytes + payload_bytes > self._budget_bytes:
            return False
        while self.size_bytes + objects_bytes + self._blocks.growth_bytes(payload_bytes) > self._budget_bytes:
            if self.give_back():
                continue
            if not self._all:
                return False
            self.evict()
        return True

    def _keep(self, key: bytes, entry: Entry, dies_at: float, hit_count: int) -> None:
        payload_bytes = len(entry.payload)
        held = _Held(
            key=key,
            first_block=self._blocks.put(entry.payload, len(self._all)),
            payload_bytes=payload_bytes,
            stored_at=entry.stored_at,
            fresh_until=entry.fresh_until,
            expires_at=entry.expires_at,
            epoch=entry.epoch,
            # Many entries have the same few: one object for all of them.
            revision=sys.intern(entry.revision),
            tags=entry.tags,
            dies_at=dies_at,
            hit_count=hit_count,
            worth=self._faded_worth + hit_count / (payload_bytes + ENTRY_BYTES),
            position=len(self._all),
        )
        self._by_key[key] = held
        self._all.append(held)
        self._objects_bytes += _objects_bytes(key, entry.tags)

    def _entry(self, held: _Held) -> Entry:
        return Entry(
            payload=self._blocks.get(held.first_block, held.payload_bytes),
            stored_at=held.stored_at,
            fresh_until=held.fresh_until,
            expires_at=held.expires_at,
            epoch=held.epoch,
            revision=held.revision,
            tags=held.tags,
        )

    def _moved(self, position: int, first_block: int) -> None:
        self._all[position].first_block = first_block

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
            self._blocks.set_owner(last.first_block, last.position)
        self._blocks.free(held.first_block)
        self._objects_bytes -= _objects_bytes(held.key, held.tags)


def _worth(held: _Held) -> float:
    return held.worth


def _objects_bytes(key: bytes, tags: tuple[str, ...]) -> int:
    tags_bytes = sum(_rounded(_STR_HEADER + len(tag)) + 8 for tag in tags)
    return ENTRY_BYTES + _rounded(_BYTES_HEADER + len(key)) + tags_bytes


def _rounded(size_bytes: int) -> int:
    return (size_bytes + 15) // 16 * 16
