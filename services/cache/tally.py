"""How many entries a selection has: for each tier with its copies, and over all tiers with each entry once.

To count an entry once, its key has to be remembered; that is done for the first 100,000. Beyond them, and where a tier
did not answer or time ran out, a count says only: at least so many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.cache.entry import Entry
from services.cache.tier import TierUnavailable
from services.cache.tiered import Level, TierName

REMEMBERED_KEYS = 100_000

Chooser = Callable[[bytes, Entry], bool]


@dataclass(slots=True, kw_only=True)
class TierTally:
    """One tier's copies."""

    tier: TierName
    entry_count: int = 0
    size_bytes: int = 0
    is_complete: bool = True


@dataclass(slots=True, kw_only=True)
class Tally:
    """Entries, each once; exact or at least so many."""

    entry_count: int = 0
    size_bytes: int = 0
    is_exact: bool = True
    tiers: list[TierTally] = field(default_factory=list)


async def tally(
    levels: Sequence[Level], prefix: bytes, *, counts: Chooser, forgets: Chooser | None, time_s: float
) -> Tally:
    """Count what `counts` chooses under the prefix; delete what `forgets` chooses. Takes `time_s` at most."""
    found = Tally()
    seen: set[bytes] = set()
    try:
        async with asyncio.timeout(time_s):
            for level in levels:
                found.tiers.append(TierTally(tier=level.name, is_complete=False))
                await _sweep(level, prefix, found, seen, counts, forgets)
    except TimeoutError:
        asked = {one.tier for one in found.tiers}
        found.tiers += [TierTally(tier=level.name, is_complete=False) for level in levels if level.name not in asked]
    found.entry_count = max([found.entry_count, *(one.entry_count for one in found.tiers)])
    found.size_bytes = max([found.size_bytes, *(one.size_bytes for one in found.tiers)])
    found.is_exact = all(one.is_complete for one in found.tiers) and len(seen) < REMEMBERED_KEYS
    return found


async def _sweep(
    level: Level, prefix: bytes, found: Tally, seen: set[bytes], counts: Chooser, forgets: Chooser | None
) -> None:
    here = found.tiers[-1]

    def choose(key: bytes, entry: Entry) -> bool:
        if counts(key, entry):
            here.entry_count += 1
            here.size_bytes += entry.size_bytes
            if key not in seen and len(seen) < REMEMBERED_KEYS:
                seen.add(key)
                found.entry_count += 1
                found.size_bytes += entry.size_bytes
        return forgets is not None and forgets(key, entry)

    try:
        await level.store.sweep(prefix, choose, apply=forgets is not None)
    except TierUnavailable:
        return
    here.is_complete = True
