"""The tiers' counters for Prometheus, read when they are scraped, so that a look-up pays nothing for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from meshkit.telemetry import names
from services.cache.tiered import Counters, TieredStore

_METRICS: tuple[tuple[str, str, Callable[[Counters], int]], ...] = (
    (names.METRIC_CACHE_LOOKUPS, "Look-ups that a tier answered", lambda counters: counters.lookup_count),
    (names.METRIC_CACHE_HITS, "Look-ups that a tier had a usable entry for", lambda counters: counters.hit_count),
    (names.METRIC_CACHE_UNREADABLE, "Entries that could not be read", lambda counters: counters.unreadable_count),
    (names.METRIC_CACHE_ERRORS, "Look-ups and writes that a tier did not serve", lambda counters: counters.error_count),
)


class TierCollector(Collector):
    """Collects from one TieredStore."""

    def __init__(self, store: TieredStore) -> None:
        self._store = store

    def collect(self) -> Iterable[CounterMetricFamily]:
        for name, description, read in _METRICS:
            family = CounterMetricFamily(name.removesuffix("_total"), description, labels=["tier"])
            for tier, counters in self._store.counters():
                family.add_metric([tier.name], read(counters))
            yield family
