"""What a trace shows of work that no caller waits for."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry

from meshkit.telemetry import names
from services.router.observation import Observation
from services.router.observer import Regenerated


def test_a_regeneration_is_a_trace_of_its_own_that_names_the_request_it_came_from() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    registry = CollectorRegistry()
    observation = Observation(registry, tracer)
    with tracer.start_as_current_span("request") as request, observation.regenerating() as trace_id:
        observation.regenerated(Regenerated.FAILED, "BACKEND_DOWN")
    regeneration, _ = exporter.get_finished_spans()
    assert regeneration.name == names.SPAN_REGENERATE and regeneration.parent is None
    assert f"{regeneration.context.trace_id:032x}" == trace_id
    assert regeneration.context.trace_id != request.get_span_context().trace_id
    assert [link.context.span_id for link in regeneration.links] == [request.get_span_context().span_id]
    assert regeneration.status.status_code is StatusCode.ERROR
    assert registry.get_sample_value(names.METRIC_REGENERATIONS, {"outcome": "failed"}) == 1
