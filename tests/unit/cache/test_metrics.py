"""The tiers' metrics: what happened and what is held, per tier, in the text that Prometheus scrapes."""

import asyncio

from prometheus_client import CollectorRegistry, generate_latest

from meshkit.testing.clock import FakeClock
from services.cache.lifetime import TierLifetime
from services.cache.memory_tier import MemoryTier
from services.cache.metrics import TierCollector
from services.cache.tiered import Level, TieredStore, TierName
from tests.support.cache_stores import KEY, OTHER_KEY, FakeStore, an_entry


async def test_hits_bytes_latency_and_sizes_are_told_per_tier_and_a_tier_that_is_down_tells_no_size():
    clock, second = FakeClock(), FakeStore()
    first = MemoryTier(budget_bytes=1_000_000, lifetime=TierLifetime(ttl_s=300), clock=clock)
    store = TieredStore([Level(name=TierName.L1, store=first), Level(name=TierName.L2, store=second)], clock)
    collector = TierCollector(store, clock)
    entry = an_entry(wall=clock.wall())
    await store.commit(KEY, entry)
    await store.lookup(KEY)
    second.is_down = True
    await store.lookup(OTHER_KEY)
    watching = asyncio.create_task(collector.watch())
    await clock.advance(0)
    watching.cancel()
    registry = CollectorRegistry()
    registry.register(collector)
    lines = set(generate_latest(registry).decode().splitlines())
    assert {
        'mesh_cache_tier_hits_total{tier="L1"} 1.0',
        f'mesh_cache_tier_hit_bytes_total{{tier="L1"}} {float(entry.size_bytes)}',
        'mesh_cache_tier_errors_total{tier="L2"} 1.0',
        'mesh_cache_tier_lookup_seconds_count{tier="L1"} 2.0',
        'mesh_cache_tier_lookup_seconds_bucket{le="+Inf",tier="L2"} 1.0',
        'mesh_cache_tier_entries{tier="L1"} 1.0',
        'mesh_cache_tier_evictions{tier="L1"} 0.0',
    } <= lines
    assert not any(line.startswith('mesh_cache_tier_entries{tier="L2"}') for line in lines)
