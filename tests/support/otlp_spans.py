"""OTLP export requests with just what a test names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

START_NS = 1_700_000_000_000_000_000
KINDS = {"": 0, "internal": 1, "server": 2, "client": 3}


@dataclass(frozen=True, kw_only=True)
class MadeSpan:
    """A span to export. Ids are small numbers; times are milliseconds after START_NS."""

    trace: int = 1
    span: int = 1
    parent: int = 0
    service: str = "router"
    operation: str = "Generate"
    kind: str = "server"
    start_ms: float = 0
    duration_ms: float = 10
    error: str = ""
    tags: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[tuple[str, float, Mapping[str, Any]], ...] = ()
    links: tuple[tuple[int, int], ...] = ()
    start_ns: int = START_NS


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def span_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def export(*made: MadeSpan) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for one in made:
        resource_spans = request.resource_spans.add()
        set_attributes(resource_spans.resource.attributes, {"service.name": one.service, "service.instance.id": "i-1"})
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name = "tests"
        _fill(scope_spans.spans.add(), one)
    return request


def set_attributes(target: Any, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        attribute = target.add()
        attribute.key = key
        set_value(attribute.value, value)


def set_value(target: Any, value: Any) -> None:
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, bytes):
        target.bytes_value = value
    elif isinstance(value, list):
        for item in value:
            set_value(target.array_value.values.add(), item)
    elif isinstance(value, dict):
        set_attributes(target.kvlist_value.values, value)
    else:
        target.string_value = value


def _fill(span: Span, made: MadeSpan) -> None:
    span.trace_id, span.span_id = trace_id(made.trace), span_id(made.span)
    span.parent_span_id = span_id(made.parent) if made.parent else b""
    span.name, span.kind = made.operation, KINDS[made.kind]  # type: ignore[assignment]
    span.start_time_unix_nano = _ns(made, made.start_ms)
    span.end_time_unix_nano = _ns(made, made.start_ms + made.duration_ms)
    set_attributes(span.attributes, made.tags)
    for name, at_ms, tags in made.events:
        event = span.events.add()
        event.name, event.time_unix_nano = name, _ns(made, at_ms)
        set_attributes(event.attributes, tags)
    for linked_trace, linked_span in made.links:
        span.links.add(trace_id=trace_id(linked_trace), span_id=span_id(linked_span))
    if made.error:
        span.status.code, span.status.message = Status.STATUS_CODE_ERROR, made.error


def _ns(made: MadeSpan, ms: float) -> int:
    return made.start_ns + round(ms * 1_000_000)


def generate_trace(number: int, *, start_ms: float = 0) -> Iterable[MadeSpan]:
    """Six spans of four services, as one request through the mesh leaves them."""
    at = start_ms
    yield MadeSpan(trace=number, span=1, start_ms=at, duration_ms=100, events=(("first_token", at + 40, {}),))
    yield MadeSpan(trace=number, span=2, parent=1, operation="Lookup", kind="client", start_ms=at + 1, duration_ms=4)
    yield MadeSpan(trace=number, span=3, parent=2, service="cache", operation="Lookup", start_ms=at + 2, duration_ms=2)
    yield MadeSpan(trace=number, span=4, parent=1, service="compressor", operation="Compress", start_ms=at + 6)
    yield MadeSpan(trace=number, span=5, parent=1, service="inference", start_ms=at + 20, duration_ms=79)
    yield MadeSpan(trace=number, span=6, parent=5, service="inference", operation="decode", kind="internal",
                   start_ms=at + 40, duration_ms=58)  # fmt: skip
