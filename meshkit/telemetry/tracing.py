"""Spans out through OTLP, bounded: a slow or dead receiver costs spans, which are counted, and never a request."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.util.types import AttributeValue
from prometheus_client import CollectorRegistry, Counter

from meshkit.settings import TelemetrySettings
from meshkit.telemetry import names

_QUEUE_SPANS = 8192
_BATCH_SPANS = 512
_DELAY_MS = 500
_EXPORT_TIMEOUT_S = 3
_SHUTDOWN_TIMEOUT_MS = 2000
_LAST_BATCH_S = 0.3


class Tracing:
    """The process's tracer. Without an endpoint spans still have ids, so that answers and logs name a trace."""

    def __init__(
        self,
        settings: TelemetrySettings,
        *,
        service: str,
        instance_id: str,
        version: str,
        metrics_registry: CollectorRegistry,
    ) -> None:
        resource = Resource.create(
            {
                names.SERVICE_NAME: service,
                names.SERVICE_INSTANCE_ID: instance_id,
                names.SERVICE_VERSION: version,
                names.DEPLOYMENT_ENVIRONMENT: settings.environment,
            }
        )
        sampler = ParentBased(TraceIdRatioBased(settings.trace_sample_ratio))
        self._provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
        self._processor: _CountingProcessor | None = None
        if settings.otlp_endpoint:
            dropped = Counter(
                names.METRIC_SPANS_DROPPED, "Spans that were not delivered", ["reason"], registry=metrics_registry
            )
            exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=True, timeout=_EXPORT_TIMEOUT_S)
            self._processor = _CountingProcessor(_CountingExporter(exporter, dropped), dropped)
            self._provider.add_span_processor(self._processor)
        self.tracer = self._provider.get_tracer("meshkit")

    def flush(self) -> None:
        """Send what is queued. Blocks; call it off the event loop."""
        if self._processor is not None:
            self._processor.force_flush()

    def shutdown(self) -> None:
        """Send what is queued, within two seconds. Blocks; call it off the event loop."""
        if self._processor is not None:
            self._processor.shutdown()


class _CountingExporter(SpanExporter):
    def __init__(self, inner: SpanExporter, dropped: Counter) -> None:
        self._inner = inner
        self._dropped = dropped.labels(reason="export_failed")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                self._dropped.inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class _CountingProcessor(BatchSpanProcessor):
    """The SDK drops the oldest span of a full queue and says so only in its own log."""

    def __init__(self, exporter: SpanExporter, dropped: Counter) -> None:
        super().__init__(
            exporter, max_queue_size=_QUEUE_SPANS, schedule_delay_millis=_DELAY_MS, max_export_batch_size=_BATCH_SPANS
        )
        self._dropped_full = dropped.labels(reason="queue_full")
        self._dropped_late = dropped.labels(reason="shutdown")

    def on_end(self, span: ReadableSpan) -> None:
        if len(self._batch_processor._queue) >= _QUEUE_SPANS:
            self._dropped_full.inc()
        super().on_end(span)

    def shutdown(self) -> None:
        # The public shutdown waits for up to 30 s and can't be bounded.
        self._batch_processor.shutdown(timeout_millis=_SHUTDOWN_TIMEOUT_MS)
        # The batch on its way fails now that its channel is closed; it is counted before this returns.
        self._batch_processor._worker_thread.join(_LAST_BATCH_S)
        self._dropped_late.inc(len(self._batch_processor._queue))


def add_event(name: str, **attributes: AttributeValue) -> None:
    """Put an event on the current span."""
    trace.get_current_span().add_event(name, attributes)


def set_attributes(attributes: dict[str, AttributeValue]) -> None:
    """Put attributes on the current span."""
    trace.get_current_span().set_attributes(attributes)


def current_trace_id() -> str:
    """32 hex digits; empty where there is no span."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""
