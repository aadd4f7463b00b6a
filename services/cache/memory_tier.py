"""The first tier: entries in this process, at most so many bytes of them, the least recently used out first.

The budget counts an entry's own bytes plus a fixed overhead for the dict slot, key, dataclasses and numbers of
one entry: 450 bytes by tracemalloc on CPython 3.11, rounded up.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from meshkit.clock import Clock
from services.cache.entry import Entry
from services.cache.tier import Swept, TierSize

ENTRY_OVERHEAD_BYTES = 512
_ENTRIES_A_TURN = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    entry: Entry
    expires_at: float
    """On the monotonic clock."""


class MemoryTier:
    """An LRU with a byte budget and a time to live. Never raises TierUnavailable."""

    def __init__(self, *, budget_bytes: int, ttl_s: float, clock: Clock) -> None:
        self._budget_bytes = budget_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._size_bytes = 0
        self._eviction_count = 0
        self._held: OrderedDict[bytes, _Held] = OrderedDict()

    async def get(self, key: bytes) -> Entry | None:
        """The entry, which then is the most recently used; expired ones are dropped."""
        held = self._held.get(key)
        if held is None:
            return None
        if held.expires_at <= self._clock.now():
            self._drop(key)
            return None
        self._held.move_to_end(key)
        return held.entry

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep it for the tier's time to live or what remains of its own; not if it is expired or over the budget."""
        self._drop(key)
        remaining_s = entry.expires_at - self._clock.wall()
        if remaining_s <= 0 or _cost_bytes(entry) > self._budget_bytes:
            return
        self._held[key] = _Held(entry=entry, expires_at=self._clock.now() + min(self._ttl_s, remaining_s))
        self._size_bytes += _cost_bytes(entry)
        while self._size_bytes > self._budget_bytes:
            self._drop(next(iter(self._held)))
            self._eviction_count += 1

    async def delete(self, key: bytes) -> None:
        self._drop(key)

    async def size(self) -> TierSize:
        return TierSize(
            entry_count=len(self._held),
            size_bytes=self._size_bytes,
            budget_bytes=self._budget_bytes,
            eviction_count=self._eviction_count,
        )

    async def sweep(self, prefix: bytes, matches: Callable[[bytes, Entry], bool], *, apply: bool) -> Swept:
        entry_count = size_bytes = 0
        for number, key in enumerate([key for key in self._held if key.startswith(prefix)]):
            if number % _ENTRIES_A_TURN == 0:
                await asyncio.sleep(0)
            held = self._held.get(key)
            if held is not None and matches(key, held.entry):
                entry_count += 1
                size_bytes += held.entry.size_bytes
                if apply:
                    self._drop(key)
        return Swept(entry_count=entry_count, size_bytes=size_bytes)

    def _drop(self, key: bytes) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._size_bytes -= _cost_bytes(held.entry)


def _cost_bytes(entry: Entry) -> int:
    return entry.size_bytes + ENTRY_OVERHEAD_BYTES
