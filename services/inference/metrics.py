"""The engine's load for Prometheus, read when it is scraped, so that a step pays nothing for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from meshkit.errors import NotReady
from meshkit.telemetry import names
from services.inference.engine_port import LoadReading
from services.inference.model_host import ModelHost

_METRICS: tuple[tuple[str, str, Callable[[LoadReading], float]], ...] = (
    (names.METRIC_ENGINE_RUNNING, "Sequences in the batch", lambda reading: reading.load.running_count),
    (names.METRIC_ENGINE_WAITING, "Sequences that wait for a place", lambda reading: reading.load.waiting_count),
    (
        names.METRIC_ENGINE_PREFILL_BACKLOG,
        "Prompt tokens to compute",
        lambda reading: reading.load.prefill_backlog_tokens,
    ),
    (names.METRIC_ENGINE_KV_USED, "KV tokens in use", lambda reading: reading.load.kv_used_tokens),
    (names.METRIC_ENGINE_KV_TOTAL, "KV tokens that fit", lambda reading: reading.load.kv_total_tokens),
    (names.METRIC_ENGINE_STEP, "Time of a step, moving average", lambda reading: reading.load.step_time_s),
    (names.METRIC_ENGINE_GENERATION, "Rises when the engine starts anew", lambda reading: reading.generation),
)


class EngineCollector(Collector):
    """Collects from one ModelHost."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host

    def collect(self) -> Iterable[GaugeMetricFamily]:
        try:
            engine = self._host.engine
        except NotReady:
            return
        labels = {"model": self._host.name}
        yield _gauge(names.METRIC_ENGINE_READY, "1 while the engine draws tokens", labels, float(engine.is_ready))
        for name, description, read in _METRICS:
            yield _gauge(name, description, labels, read(engine.load()))


def _gauge(name: str, description: str, labels: dict[str, str], value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, description, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family
