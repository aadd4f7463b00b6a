"""The three tiers together on the Zipf stream, beside three LRUs of the same sizes in the same order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks.cache import tiers
from benchmarks.cache.lru import Lru
from benchmarks.cache.stream import Stream, count_hits, entry_of, interval, key_of, make_stream
from benchmarks.report import Claim, Options, at_least, skipped
from meshkit.clock import SystemClock
from meshkit.valkey_binary import ValkeyUnavailable
from services.cache.tiered import Found, Level, TieredStore, TierName

CLAIM = "overall_above_lru"
BUDGET_SHARES = (0.002, 0.02, 0.2)
"""1 : 10 : 100, as the settings propose, scaled so that the last holds a fifth of what is asked for."""
REQUESTS_PER_KEY, SEED_COUNT = 1, 3


def hits_beside_lru(options: Options) -> Claim:
    """Hits in any tier over those of the LRUs."""
    unit = "x the hits of LRUs"
    streams = [make_stream(options, requests_per_key=REQUESTS_PER_KEY, seed=seed) for seed in range(SEED_COUNT)]
    try:
        ours = [asyncio.run(_hits(stream, _budgets(stream))) for stream in streams]
    except ValkeyUnavailable as problem:
        return skipped(CLAIM, unit, "> 1", str(problem))
    theirs = [_lru_hits(stream, _budgets(stream)) for stream in streams]
    mean, low, high = interval([our / their for our, their in zip(ours, theirs, strict=True)])
    possible = [stream.possible_hit_count for stream in streams]
    detail = (
        f"{ours[0] / possible[0]:.3f} against {theirs[0] / possible[0]:.3f} of the possible hits; budgets "
        f"{', '.join(f'{budget / 1e6:.1f}' for budget in _budgets(streams[0]))} MB; {len(streams[0].numbers)} look-ups"
    )
    return at_least(CLAIM, mean, unit, 1.0, detail, low=low, high=high)


def _budgets(stream: Stream) -> Sequence[int]:
    return [int(stream.asked_bytes * share) for share in BUDGET_SHARES]


async def _hits(stream: Stream, budgets: Sequence[int]) -> int:
    clock = SystemClock()
    first = tiers.memory(budgets[0])
    async with tiers.server(budgets[1]) as second, tiers.disk(budgets[2]) as third:
        stores = zip(TierName, (first, second, third), strict=True)
        store = TieredStore([Level(name=name, store=each) for name, each in stores], clock)

        async def look_up(number: int, size_bytes: int) -> bool:
            key = key_of(number)
            if isinstance(await store.lookup(key), Found):
                return True
            await store.commit(key, entry_of(size_bytes, clock.wall()))
            return False

        return await count_hits(stream, look_up)


def _lru_hits(stream: Stream, budgets: Sequence[int]) -> int:
    levels = [Lru(budget) for budget in budgets]
    hit_count = 0
    for number in stream.numbers:
        found_at = next((place for place, lru in enumerate(levels) if lru.has(number)), len(levels))
        hit_count += found_at < len(levels)
        for lru in levels[:found_at]:
            lru.put(number, stream.sizes[number])
    return hit_count
