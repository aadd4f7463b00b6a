"""What the console says of itself to Prometheus, read from the tally when asked."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshkit.telemetry import names
from services.console.intake import DROP_REASONS, Intake


class ConsoleMetrics(Collector):
    """Received, stored and dropped spans, what waits, what the file takes, what was evicted."""

    def __init__(self, intake: Intake, registry: CollectorRegistry) -> None:
        self._intake = intake
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        intake, tally = self._intake, self._intake.tally
        yield CounterMetricFamily(names.METRIC_CONSOLE_RECEIVED, "Spans that arrived over OTLP", value=tally.received)
        yield CounterMetricFamily(names.METRIC_CONSOLE_STORED, "Spans on the disk", value=tally.stored)
        dropped = CounterMetricFamily(names.METRIC_CONSOLE_DROPPED, "Spans that were lost", labels=["reason"])
        for reason in DROP_REASONS:
            dropped.add_metric([reason], tally.dropped[reason])
        yield dropped
        yield CounterMetricFamily(
            names.METRIC_CONSOLE_EVICTED, "Traces deleted by age or size", value=intake.evicted_trace_count
        )
        yield CounterMetricFamily(
            names.METRIC_CONSOLE_MOVED_ASIDE, "Damaged files that were replaced", value=intake.moved_aside_count
        )
        yield GaugeMetricFamily(names.METRIC_CONSOLE_QUEUE, "Spans not written yet", value=intake.queued_spans)
        yield GaugeMetricFamily(
            names.METRIC_CONSOLE_FILE_BYTES, "Size of the file and its log", value=intake.file_bytes
        )
