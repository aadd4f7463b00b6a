"""How long a look-up on the disk takes, thread and checksum included, on the disk of the temporary folder."""

from __future__ import annotations

import asyncio
import random
import time

from benchmarks.cache.stream import entry_of, key_of, make_stream
from benchmarks.cache.tiers import disk
from benchmarks.report import Claim, Options, at_most, percentile
from meshkit.clock import SystemClock

CLAIM = "l3_speed"
ENTRY_COUNT, SMOKE_ENTRY_COUNT = 20_000, 500
BAR_MS = 20.0
"""A look-up's time-out."""


def disk_speed(options: Options) -> Claim:
    """p99 of look-ups, one after the other, in random order."""
    count = SMOKE_ENTRY_COUNT if options.is_smoke else ENTRY_COUNT
    sizes = make_stream(options, requests_per_key=0, seed=1).sizes[:count]
    lookups_s, put_s = asyncio.run(_measured(sizes))
    p50_ms, p99_ms = percentile(lookups_s, 0.5) * 1000, percentile(lookups_s, 0.99) * 1000
    detail = (
        f"p50 {p50_ms:.2f} ms, {len(lookups_s) / sum(lookups_s):.0f} look-ups/s, {len(sizes) / put_s:.0f} writes/s; "
        f"{len(sizes)} entries, {sum(sizes) / 1e6:.0f} MB"
    )
    return at_most(CLAIM, p99_ms, "ms, p99", BAR_MS, detail)


async def _measured(sizes: list[int]) -> tuple[list[float], float]:
    wall = SystemClock().wall()
    async with disk(4 * sum(sizes) + 2**26) as tier:
        started_at = time.perf_counter()
        for number, size_bytes in enumerate(sizes):
            await tier.put(key_of(number), entry_of(size_bytes, wall))
        put_s = time.perf_counter() - started_at
        order = random.Random(2).sample(range(len(sizes)), len(sizes))
        return [await _lookup_s(tier, number) for number in order], put_s


async def _lookup_s(tier, number: int) -> float:
    started_at = time.perf_counter()
    await tier.get(key_of(number))
    return time.perf_counter() - started_at
