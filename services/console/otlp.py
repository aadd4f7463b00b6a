"""OTLP's protobuf to spans and back: what is kept in columns, what stays in the body, what is refused.

Fields that the store keeps in columns are cleared before the rest is serialised, so nothing is written twice. The
body is decoded again only when somebody looks at the span.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from services.console.spans import BodyReader, Event, IncomingSpan, Link, Origin, Process, SpanDetail, Tags, Value

LARGEST_BODY_BYTES = 64 * 1024
LATEST_NS = 2**62
UNKNOWN_SERVICE = "unknown_service"

_KINDS = ("", "internal", "server", "client", "producer", "consumer")
_STATUSES = {Status.STATUS_CODE_OK: "OK", Status.STATUS_CODE_ERROR: "ERROR"}
_ERROR = Status.STATUS_CODE_ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A span that can't be kept, and why."""

    reason: str


def spans(request: ExportTraceServiceRequest) -> Iterator[IncomingSpan | Refused]:
    """The spans of an export, in order. Empties the request's spans as it goes."""
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            origin = _origin(resource_spans, scope_spans)
            for span in scope_spans.spans:
                yield _incoming(span, origin)


def _incoming(span: Span, origin: Origin) -> IncomingSpan | Refused:
    trace_id, start_ns, end_ns = span.trace_id, span.start_time_unix_nano, span.end_time_unix_nano
    span_id = _span_id(span.span_id)
    if len(trace_id) != 16 or not any(trace_id) or len(span.span_id) != 8 or not span_id:
        return Refused(reason="a trace id must be 16 bytes and a span id 8 bytes, not all zero")
    if start_ns > LATEST_NS or end_ns > LATEST_NS:
        return Refused(reason="times must be nanoseconds since 1970")
    parent_id, operation, kind = _span_id(span.parent_span_id), span.name, span.kind
    _clear_columns(span)
    body = span.SerializeToString()
    if len(body) > LARGEST_BODY_BYTES:
        return Refused(reason=f"a span may hold {LARGEST_BODY_BYTES} bytes of attributes and events")
    return IncomingSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        operation=operation[:512],
        kind=_KINDS[kind] if 0 <= kind < len(_KINDS) else "",
        start_us=start_ns // 1000,
        duration_us=max(0, end_ns - start_ns) // 1000,
        is_error=span.status.code == _ERROR,
        origin=origin,
        body=body,
    )


def _span_id(eight_bytes: bytes) -> int:
    return int.from_bytes(eight_bytes[:8], "big", signed=True)


def _clear_columns(span: Span) -> None:
    span.ClearField("trace_id")
    span.ClearField("span_id")
    span.ClearField("parent_span_id")
    span.ClearField("name")
    span.ClearField("kind")
    span.ClearField("start_time_unix_nano")
    span.ClearField("end_time_unix_nano")


def _origin(resource_spans: ResourceSpans, scope_spans: ScopeSpans) -> Origin:
    resource = resource_spans.resource
    service = next((a.value.string_value for a in resource.attributes if a.key == "service.name"), "")
    return Origin(
        service=service[:512] or UNKNOWN_SERVICE,
        resource=resource.SerializeToString(),
        scope=scope_spans.scope.SerializeToString(),
    )


def detail(body: bytes) -> SpanDetail:
    """Decode a span's body."""
    span = Span.FromString(body)
    return SpanDetail(
        tags=_tags(span.attributes),
        events=tuple(
            Event(time_us=event.time_unix_nano // 1000, name=event.name, tags=_tags(event.attributes))
            for event in span.events
        ),
        links=tuple(Link(trace_id=link.trace_id, span_id=_span_id(link.span_id)) for link in span.links),
        status=_STATUSES.get(span.status.code, ""),
        status_message=span.status.message,
        trace_state=span.trace_state,
    )


def process(origin: Origin) -> Process:
    """Decode who recorded a span."""
    scope = InstrumentationScope.FromString(origin.scope)
    named = (("otel.scope.name", scope.name), ("otel.scope.version", scope.version))
    return Process(
        service=origin.service,
        tags=tuple(tag for tag in _tags(Resource.FromString(origin.resource).attributes) if tag[0] != "service.name"),
        scope_tags=tuple((key, text) for key, text in named if text),
    )


BODY_READER = BodyReader(detail=detail, process=process)


def _tags(attributes: Iterable[KeyValue]) -> Tags:
    return tuple((attribute.key, _value(attribute.value)) for attribute in attributes)


def _value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    if kind in ("array_value", "kvlist_value"):
        return json.dumps(_plain(value), ensure_ascii=False)
    scalar: Value = getattr(value, kind)
    return scalar


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: _plain(item.value) for item in value.kvlist_value.values}
    scalar = _value(value)
    return scalar.hex() if isinstance(scalar, bytes) else scalar
