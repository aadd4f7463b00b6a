"""The engine's load for Prometheus, read when it is scraped, so that a step pays nothing for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
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

_COUNTERS: tuple[tuple[str, str, Callable[[LoadReading], float]], ...] = (
    (names.METRIC_ENGINE_PROMPT_TOKENS, "Tokens of admitted prompts", lambda reading: reading.load.prompt_token_count),
    (
        names.METRIC_ENGINE_CACHED_TOKENS,
        "Prompt tokens found in the prefix cache",
        lambda reading: reading.load.cached_prompt_token_count,
    ),
    (names.METRIC_ENGINE_SLOTS, "Tokens through the model", lambda reading: reading.load.computed_slot_count),
    (
        names.METRIC_ENGINE_USEFUL,
        "Tokens through the model for live sequences, for the first time",
        lambda reading: reading.load.useful_token_count,
    ),
    (
        names.METRIC_ENGINE_PREEMPTIONS,
        "Sequences pushed out for better-ranked ones",
        lambda reading: reading.load.preemption_count,
    ),
)


class EngineCollector(Collector):
    """Collects from one ModelHost."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host

    def collect(self) -> Iterable[Metric]:
        try:
            engine = self._host.engine
        except NotReady:
            return
        labels = {"model": self._host.name}
        yield _gauge(names.METRIC_ENGINE_READY, "1 while the engine draws tokens", labels, float(engine.is_ready))
        for name, description, read in _METRICS:
            yield _gauge(name, description, labels, read(engine.load()))
        for name, description, read in _COUNTERS:
            counter = CounterMetricFamily(name, description, labels=list(labels))
            counter.add_metric(list(labels.values()), read(engine.load()))
            yield counter


def _gauge(name: str, description: str, labels: dict[str, str], value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, description, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family
