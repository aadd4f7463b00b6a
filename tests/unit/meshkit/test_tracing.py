import socket
import time

import pytest
from opentelemetry.trace import use_span
from prometheus_client import CollectorRegistry

from meshkit.settings import TelemetrySettings
from meshkit.telemetry import names, tracing
from tests.support.otlp_receiver import otlp_receiver

SHUTDOWN_MS = 400
SHUTDOWN_BOUND_S = 1.1
"""Two seconds and what a busy machine adds."""


@pytest.fixture
def receiver():
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture
def silent_address():
    """Accepts connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def tracing_to(endpoint: str, **settings):
    registry = CollectorRegistry()
    made = tracing.Tracing(
        TelemetrySettings(otlp_endpoint=endpoint, **settings),
        service="mesh-cache",
        instance_id="one",
        version="1",
        metrics_registry=registry,
    )
    return made, registry


def dropped(registry: CollectorRegistry) -> dict[str, float]:
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {s.labels["reason"]: s.value for s in samples if s.name == names.METRIC_SPANS_DROPPED and s.value}


def test_spans_arrive_with_their_resource_when_flushed(receiver):
    made, registry = tracing_to(receiver.address)
    with made.tracer.start_as_current_span("work"):
        tracing.add_event("first_token", at=1)
        tracing.set_attributes({"mesh.tenant": "acme"})
    made.flush()
    assert [span.name for span in receiver.spans] == ["work"]
    assert [event.name for event in receiver.spans[0].events] == ["first_token"]
    assert receiver.resources[0]["service.name"] == "mesh-cache"
    assert receiver.resources[0]["service.instance.id"] == "one"
    made.shutdown()
    assert dropped(registry) == {}


def test_shutdown_sends_what_is_queued(receiver):
    made, _ = tracing_to(receiver.address)
    for number in range(1000):
        made.tracer.start_span(f"s{number}").end()
    made.shutdown()
    assert len(receiver.spans) == 1000


def test_a_silent_receiver_costs_spans_which_are_counted_and_shutdown_is_bounded(silent_address, monkeypatch):
    monkeypatch.setattr(tracing, "_SHUTDOWN_TIMEOUT_MS", SHUTDOWN_MS)
    made, registry = tracing_to(silent_address)
    span_count = 1000
    for number in range(span_count):
        made.tracer.start_span(f"s{number}").end()
    begun = time.monotonic()
    made.shutdown()
    assert time.monotonic() - begun < SHUTDOWN_BOUND_S
    assert sum(dropped(registry).values()) == span_count


def test_a_full_queue_drops_and_counts_without_waiting(silent_address, monkeypatch):
    monkeypatch.setattr(tracing, "_QUEUE_SPANS", 600)
    monkeypatch.setattr(tracing, "_SHUTDOWN_TIMEOUT_MS", 1)
    made, registry = tracing_to(silent_address)
    begun = time.monotonic()
    for number in range(3000):
        made.tracer.start_span(f"s{number}").end()
    assert time.monotonic() - begun < 1
    assert dropped(registry)["queue_full"] >= 3000 - 600 - 512
    made.shutdown()


def test_without_an_endpoint_spans_still_have_ids_and_nothing_waits():
    made, _ = tracing_to("")
    span = made.tracer.start_span("work")
    with use_span(span):
        assert tracing.current_trace_id() == f"{span.get_span_context().trace_id:032x}"
    made.flush()
    made.shutdown()
    assert tracing.current_trace_id() == ""


def test_traces_that_are_not_sampled_keep_their_ids_and_are_not_sent(receiver):
    made, _ = tracing_to(receiver.address, trace_sample_ratio=0.0)
    span = made.tracer.start_span("work")
    assert span.get_span_context().is_valid
    span.end()
    made.shutdown()
    assert receiver.spans == []
