"""The port of a tier: one place that holds entries. `MemoryTier` and `ValkeyTier` are real; tests have a fake.

A tier never serves what it could not read. What its answers mean for a look-up is decided in `tiered`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from services.cache.entry import Entry

UNKNOWN = -1
"""A count that the tier does not tell."""


class TierUnavailable(Exception):
    """The tier is gone, frozen or too slow; the look-up goes on without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSize:
    """What a tier holds now; UNKNOWN where it does not tell."""

    entry_count: int
    size_bytes: int
    budget_bytes: int
    eviction_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """The entries that a sweep matched, and their bytes without any overhead."""

    entry_count: int
    size_bytes: int


class Store(Protocol):
    """A tier. Keys are opaque, 1 to 64 bytes; the same key holds one entry, the last one put."""

    async def get(self, key: bytes) -> Entry | None:
        """The entry, or None where there is none. Raises TierUnavailable; Unreadable once, then the entry is gone."""
        ...

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep the entry until it expires, is evicted or replaced. Raises TierUnavailable."""
        ...

    async def delete(self, key: bytes) -> None:
        """Forget the key, if it is there. Raises TierUnavailable."""
        ...

    async def size(self) -> TierSize:
        """What it holds. Raises TierUnavailable."""
        ...

    async def sweep(self, prefix: bytes, matches: Callable[[bytes, Entry], bool], *, apply: bool) -> Swept:
        """Count the entries under keys with this prefix that match; with `apply` forget them, and unreadable ones too.

        Entries that are put meanwhile may be missed. Works in turns, so that the loop is never held for long. Raises
        TierUnavailable, also half-way.
        """
        ...
