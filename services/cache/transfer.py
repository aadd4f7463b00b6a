"""Taking a tenant's entries out of the cache, and putting them into this one or another.

Out comes what could be served now, each entry once, whichever tier has it; memory for that is bounded, so a tenant with
very many entries is walked through in parts. In goes what is still alive and not invalidated here since: an entry
keeps its age, its end and its epoch. Each is written to every tier before the next part is read, so nothing is dropped.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum

from meshkit.clock import Clock
from meshkit.errors import BackendDown
from services.cache.entry import Entry, Unreadable
from services.cache.epoch_keeper import INVALIDATED, EpochKeeper
from services.cache.request_key import DIGEST_BYTES, PARTITION_BYTES, partition
from services.cache.response_cache import Caller
from services.cache.settings import EntrySettings
from services.cache.tier import TierUnavailable
from services.cache.tiered import Level, TieredStore

KEYS_A_PART = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Portable:
    """An entry outside the cache; it belongs to no tenant."""

    digest: bytes
    entry: Entry


class Fate(Enum):
    """What became of an entry that was put in."""

    STORED = "stored"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"
    REFUSED = "refused"


class Transfer:
    """One cache's way out and in."""

    def __init__(
        self,
        store: TieredStore,
        keeper: EpochKeeper,
        *,
        limits: EntrySettings,
        clock: Clock,
        keys_a_part: int = KEYS_A_PART,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._limits = limits
        self._clock = clock
        self._keys_a_part = keys_a_part

    async def entries(self, caller: Caller) -> AsyncIterator[tuple[Portable, int]]:
        """The tenant's entries, each with the number that was counted; 0 where there are too many to count first.

        Raises BackendDown where a tier does not answer.
        """
        await self._keeper.settle()
        async for found in self._under(partition(caller.tenant), is_whole=True):
            yield found

    async def take(self, caller: Caller, portables: Sequence[Portable], *, as_new: bool) -> list[Fate]:
        """Store entries for the tenant. `as_new`: as newer than all its invalidations."""
        return list(await asyncio.gather(*(self._take(caller, portable, as_new) for portable in portables)))

    async def _under(self, prefix: bytes, *, is_whole: bool) -> AsyncIterator[tuple[Portable, int]]:
        keys = await self._keys(prefix)
        if keys is None:
            for byte in range(256):
                async for found in self._under(prefix + bytes([byte]), is_whole=False):
                    yield found
            return
        for key in keys:
            entry = await self._fetched(key)
            if entry is not None:
                yield Portable(digest=key[PARTITION_BYTES:], entry=entry), len(keys) if is_whole else 0

    async def _keys(self, prefix: bytes) -> dict[bytes, None] | None:
        """Keys of what could be served; None where they are too many for one part."""
        keys: dict[bytes, None] = {}

        def collect(key: bytes, entry: Entry) -> bool:
            if len(keys) <= self._keys_a_part and self._is_servable(key, entry):
                keys[key] = None
            return False

        for level in self._store.levels:
            try:
                await level.store.sweep(prefix, collect, apply=False)
            except TierUnavailable as error:
                raise BackendDown(
                    f"{level.name.name} does not answer, so entries would be missing; try later"
                ) from error
        return keys if len(keys) <= self._keys_a_part else None

    async def _fetched(self, key: bytes) -> Entry | None:
        for level in self._store.levels:
            entry = await _entry_in(level, key)
            if entry is not None and self._is_servable(key, entry):
                return entry
        return None

    def _is_servable(self, key: bytes, entry: Entry) -> bool:
        is_whole_key = len(key) == PARTITION_BYTES + DIGEST_BYTES
        return is_whole_key and entry.expires_at > self._clock.wall() and not self._keeper.objection(key, entry)

    async def _take(self, caller: Caller, portable: Portable, as_new: bool) -> Fate:
        place, wall = partition(caller.tenant), self._clock.wall()
        if len(portable.digest) != DIGEST_BYTES or not self._fits(portable.entry):
            return Fate.REFUSED
        if portable.entry.expires_at <= wall:
            return Fate.EXPIRED
        number = self._keeper.number(place)
        latest = wall + self._limits.max_ttl_s
        entry = dataclasses.replace(
            portable.entry,
            stored_at=min(portable.entry.stored_at, wall),
            fresh_until=min(portable.entry.fresh_until, portable.entry.expires_at, latest),
            expires_at=min(portable.entry.expires_at, latest + self._limits.stale_s),
            epoch=number if as_new else min(portable.entry.epoch, number),
        )
        key = place + portable.digest
        if self._keeper.objection(key, entry) == INVALIDATED:
            return Fate.INVALIDATED
        await self._store.place(key, entry)
        return Fate.STORED

    def _fits(self, entry: Entry) -> bool:
        limits = self._limits
        tags_fit = all(0 < len(tag.encode()) <= limits.max_tag_bytes for tag in entry.tags)
        return 0 < len(entry.payload) <= limits.max_bytes and len(entry.tags) <= limits.max_tags and tags_fit


async def _entry_in(level: Level, key: bytes) -> Entry | None:
    try:
        return await level.store.get(key)
    except (TierUnavailable, Unreadable):
        return None
