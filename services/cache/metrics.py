"""The tiers' counters and sizes for Prometheus, read when they are scraped, so that a look-up pays nothing for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from meshkit.clock import Clock
from meshkit.telemetry import names
from services.cache.latency import BOUNDS_S, Latency
from services.cache.tier import TierSize
from services.cache.tiered import Counters, TieredStore, TierReport

_SIZES_EVERY_S = 10.0
_COUNTERS: tuple[tuple[str, str, Callable[[Counters], int]], ...] = (
    (names.METRIC_CACHE_LOOKUPS, "Look-ups that a tier answered", lambda counters: counters.lookup_count),
    (names.METRIC_CACHE_HITS, "Look-ups that a tier had a usable entry for", lambda counters: counters.hit_count),
    (names.METRIC_CACHE_HIT_BYTES, "Bytes of the entries that were hit", lambda counters: counters.hit_bytes),
    (names.METRIC_CACHE_UNREADABLE, "Entries that could not be read", lambda counters: counters.unreadable_count),
    (names.METRIC_CACHE_ERRORS, "Look-ups and writes that a tier did not serve", lambda counters: counters.error_count),
)
_SIZES: tuple[tuple[str, str, Callable[[TierSize], int]], ...] = (
    (names.METRIC_CACHE_ENTRIES, "Entries that a tier holds", lambda size: size.entry_count),
    (names.METRIC_CACHE_BYTES, "Bytes that a tier holds", lambda size: size.size_bytes),
    (names.METRIC_CACHE_EVICTIONS, "Entries that were pushed out by others", lambda size: size.eviction_count),
)


class TierCollector(Collector):
    """Collects from one TieredStore. Sizes are those that `watch` saw last, since tiers tell them on request only."""

    def __init__(self, store: TieredStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._reports: list[TierReport] = []

    async def watch(self) -> None:
        """Ask the tiers for their sizes now and then. Runs until cancelled."""
        while True:
            self._reports = await self._store.report()
            await self._clock.sleep(_SIZES_EVERY_S)

    def collect(self) -> Iterable[Metric]:
        counters = self._store.counters()
        for name, description, read in _COUNTERS:
            family = CounterMetricFamily(name.removesuffix("_total"), description, labels=["tier"])
            for tier, of_tier in counters:
                family.add_metric([tier.name], read(of_tier))
            yield family
        latencies = HistogramMetricFamily(names.METRIC_CACHE_SECONDS, "Time that a tier took", labels=["tier"])
        for tier, of_tier in counters:
            latencies.add_metric([tier.name], _buckets(of_tier.latency), of_tier.latency.total_s)
        yield latencies
        for name, description, read_size in _SIZES:
            gauge = GaugeMetricFamily(name, description, labels=["tier"])
            for report in self._reports:
                if read_size(report.size) >= 0:
                    gauge.add_metric([report.name.name], read_size(report.size))
            yield gauge


def _buckets(latency: Latency) -> list[tuple[str, int]]:
    return list(zip([*map(str, BOUNDS_S), "+Inf"], accumulate(latency.counts), strict=True))
