"""How much of the first tier one tenant may hold, and who gives way when it is full.

Each tenant has a memory of its own inside the tier, so what it loses is always its own least worth. A tenant over its
quota gives way to itself. When the whole tier is full, the tenant that holds most gives way: alone, a tenant may fill
everything, and with others it can't flush what they have, since it is the largest long before.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

from services.cache.entry import Entry
from services.cache.memory_tier import MemoryTier
from services.cache.request_key import PARTITION_BYTES, partition
from services.cache.settings import QuotaSettings
from services.cache.tier import Swept, TierSize

_NEARLY = 0.95
"""Who holds most is looked up anew once it holds less than this share of what another does: there may be many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The most that one tenant may hold."""

    max_bytes: int
    max_entries: int


class Quotas:
    """What the settings allow each tenant."""

    def __init__(self, settings: QuotaSettings) -> None:
        self._of_all = _quota(settings.max_bytes, settings.max_entries)
        self._of_some = {
            partition(tenant): _quota(own.max_bytes or settings.max_bytes, own.max_entries or settings.max_entries)
            for tenant, own in settings.tenants.items()
        }

    def of(self, place: bytes) -> Quota:
        """The quota of the tenant with this partition."""
        return self._of_some.get(place, self._of_all)


class TenantMemory:
    """The first tier as memories of tenants under one budget. Never raises TierUnavailable."""

    def __init__(
        self,
        *,
        budget_bytes: int,
        quota_of: Callable[[bytes], Quota],
        memory: Callable[[int], MemoryTier],
        draw: Callable[[int], int] = random.randrange,
    ) -> None:
        """`memory` makes one with a budget; `quota_of` takes a partition; `draw` gives a number under its argument."""
        self._budget_bytes = budget_bytes
        self._quota_of = quota_of
        self._memory = memory
        self._draw = draw
        self._size_bytes = 0
        self._gone_eviction_count = 0
        self._memories: dict[bytes, MemoryTier] = {}
        self._partitions: list[bytes] = []
        self._largest: MemoryTier | None = None
        self._rival_bytes = 0
        """What the second largest held when the largest was looked up."""

    async def get(self, key: bytes) -> Entry | None:
        memory = self._memories.get(key[:PARTITION_BYTES])
        if memory is None:
            return None
        before_bytes = memory.size_bytes
        entry = await memory.get(key)
        self._size_bytes += memory.size_bytes - before_bytes
        return entry

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep it as its tenant's memory would, then make room until quota and budget are kept."""
        place = key[:PARTITION_BYTES]
        memory, quota = self._memory_of(place), self._quota_of(place)
        before_bytes = memory.size_bytes
        await memory.put(key, entry)
        while memory.entry_count > quota.max_entries:
            memory.evict()
        self._size_bytes += memory.size_bytes - before_bytes
        while self._size_bytes > self._budget_bytes:
            self._make_room(memory)

    async def delete(self, key: bytes) -> None:
        memory = self._memories.get(key[:PARTITION_BYTES])
        if memory is not None:
            before_bytes = memory.size_bytes
            await memory.delete(key)
            self._size_bytes += memory.size_bytes - before_bytes

    async def size(self) -> TierSize:
        memories = self._memories.values()
        return TierSize(
            entry_count=sum(memory.entry_count for memory in memories),
            size_bytes=self._size_bytes,
            budget_bytes=self._budget_bytes,
            eviction_count=self._gone_eviction_count + sum(memory.eviction_count for memory in memories),
        )

    async def sweep(self, prefix: bytes, matches: Callable[[bytes, Entry], bool], *, apply: bool) -> Swept:
        entry_count = size_bytes = 0
        for place in list(self._partitions):
            memory = self._memories.get(place)
            if memory is None or place[: len(prefix)] != prefix[:PARTITION_BYTES]:
                continue
            try:
                swept = await memory.sweep(prefix, matches, apply=apply)
            finally:
                self._size_bytes = sum(memory.size_bytes for memory in self._memories.values())
            entry_count += swept.entry_count
            size_bytes += swept.size_bytes
        return Swept(entry_count=entry_count, size_bytes=size_bytes)

    def held(self, place: bytes) -> tuple[int, int]:
        """Entries of one tenant, and their bytes with all that holding them costs."""
        memory = self._memories.get(place)
        return (memory.entry_count, memory.size_bytes) if memory is not None else (0, 0)

    def _memory_of(self, place: bytes) -> MemoryTier:
        memory = self._memories.get(place)
        if memory is None:
            budget_bytes = min(self._budget_bytes, self._quota_of(place).max_bytes)
            memory = self._memories[place] = self._memory(budget_bytes)
            self._size_bytes += memory.size_bytes
            self._partitions.append(place)
        return memory

    def _make_room(self, grown: MemoryTier) -> None:
        """Evict one entry, after clearing away what has expired with one tenant, whoever it is."""
        if len(self._partitions) > 1:
            self._tidy(self._draw(len(self._partitions)))
        if self._size_bytes <= self._budget_bytes:
            return
        largest = self._largest
        if largest is None or largest.size_bytes < max(self._rival_bytes, grown.size_bytes) * _NEARLY:
            largest = self._look_up_largest()
        before_bytes = largest.size_bytes
        if not largest.give_back():
            largest.evict()
        self._size_bytes += largest.size_bytes - before_bytes

    def _look_up_largest(self) -> MemoryTier:
        first, *rest = heapq.nlargest(2, self._memories.values(), key=lambda memory: memory.size_bytes)
        self._largest, self._rival_bytes = first, rest[0].size_bytes if rest else 0
        return first

    def _tidy(self, position: int) -> None:
        """Drop expired entries of one tenant, and the tenant if it holds none."""
        place = self._partitions[position]
        memory = self._memories[place]
        before_bytes = memory.size_bytes
        memory.tidy()
        self._size_bytes += memory.size_bytes - before_bytes
        if memory.entry_count == 0:
            self._size_bytes -= memory.size_bytes
            self._gone_eviction_count += memory.eviction_count
            del self._memories[place]
            if memory is self._largest:
                self._largest = None
            last = self._partitions.pop()
            if last is not place:
                self._partitions[position] = last


def _quota(max_bytes: int, max_entries: int) -> Quota:
    return Quota(max_bytes=max_bytes or sys.maxsize, max_entries=max_entries or sys.maxsize)
