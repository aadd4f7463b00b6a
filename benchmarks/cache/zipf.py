"""Each tier alone on the Zipf stream: which share of the hits of a tier without bounds it gives.

A budget is a share of the payload bytes of all keys that are asked for; what holding an entry costs comes out of it.
The shares are such that LRU, which the detail shows, is about at the bar or below it. With the budgets that the
settings propose (1, 10 and 100 GB), this whole stream (about 0.6 GB) would fit into the first tier and prove nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from benchmarks.cache import tiers
from benchmarks.cache.lru import Lru
from benchmarks.cache.stream import Stream, count_hits, entry_of, interval, key_of, make_stream
from benchmarks.report import Claim, Options, at_least, skipped
from meshkit.clock import SystemClock
from meshkit.valkey_binary import ValkeyUnavailable
from services.cache.tier import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one tier is measured."""

    bar: float
    budget_share: float
    requests_per_key: float
    seed_count: int


PLANS: Mapping[str, Plan] = {
    "zipf_l1": Plan(bar=0.95, budget_share=1 / 2, requests_per_key=4, seed_count=5),
    "zipf_l2": Plan(bar=0.85, budget_share=1 / 5, requests_per_key=2, seed_count=3),
    "zipf_l3": Plan(bar=0.60, budget_share=1 / 50, requests_per_key=1, seed_count=3),
}
CLAIMS = tuple(PLANS)


def share_of_possible_hits(options: Options, name: str) -> Claim:
    """Hits of the tier over those of one without bounds, on the same stream."""
    plan = PLANS[name]
    streams = [
        make_stream(options, requests_per_key=plan.requests_per_key, seed=seed) for seed in range(plan.seed_count)
    ]
    budgets = [int(stream.asked_bytes * plan.budget_share) for stream in streams]
    try:
        hits = [asyncio.run(_hits(name, *pair)) for pair in zip(streams, budgets, strict=True)]
    except ValkeyUnavailable as problem:
        return skipped(name, "of the hits", f">= {plan.bar:g}", str(problem))
    mean, low, high = interval([count / stream.possible_hit_count for count, stream in zip(hits, streams, strict=True)])
    lru, _, _ = interval([_lru_share(*pair) for pair in zip(streams, budgets, strict=True)])
    detail = (
        f"budget {budgets[0] / 1e6:.0f} MB, {plan.budget_share:.3g} of {streams[0].asked_bytes / 1e6:.0f} MB; "
        f"exact LRU without overhead: {lru:.3f}; {len(streams[0].numbers)} look-ups, {plan.seed_count} seeds"
    )
    return at_least(name, mean, "of the hits", plan.bar, detail, low=low, high=high)


async def _hits(name: str, stream: Stream, budget_bytes: int) -> int:
    wall = SystemClock().wall()
    async with _tier(name, budget_bytes) as tier:

        async def look_up(number: int, size_bytes: int) -> bool:
            key = key_of(number)
            if await tier.get(key) is not None:
                return True
            await tier.put(key, entry_of(size_bytes, wall))
            return False

        return await count_hits(stream, look_up)


@contextlib.asynccontextmanager
async def _tier(name: str, budget_bytes: int) -> AsyncIterator[Store]:
    if name == "zipf_l1":
        yield tiers.memory(budget_bytes)
    else:
        async with (tiers.server if name == "zipf_l2" else tiers.disk)(budget_bytes) as tier:
            yield tier


def _lru_share(stream: Stream, budget_bytes: int) -> float:
    lru = Lru(budget_bytes)
    hit_count = sum(lru.look_up(number, stream.sizes[number]) for number in stream.numbers)
    return hit_count / stream.possible_hit_count
