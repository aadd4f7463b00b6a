"""Traces as Jaeger's query service writes them, so that Jaeger-aware tools read ours.

Source of names and types: Jaeger's `model/json`, and OpenTelemetry's specification of the mapping to Jaeger. Times and
durations are whole microseconds; a value's type is string, bool, int64, float64 or binary.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from typing import Any

from services.console.spans import Event, Process, SpanRecord, Tags, Trace, Value, span_hex

_SAFE_INTEGER = 2**53 - 1


def answer(data: Any, *, total: int = 0) -> dict[str, Any]:
    """The envelope of every answer."""
    return {"data": data, "total": total, "limit": 0, "offset": 0, "errors": None}


def failure(code: int, message: str) -> dict[str, Any]:
    """The envelope of every error."""
    return {**answer(None), "errors": [{"code": code, "msg": message}]}


def trace_json(trace: Trace) -> dict[str, Any]:
    """One trace: its spans, and the processes that recorded them as p1, p2, ..."""
    processes: dict[Process, str] = {}
    known = {span.span_id for span in trace.spans}
    trace_hex = trace.trace_id.hex()
    spans = [_span(span, trace_hex, _process_key(processes, span.process), known) for span in trace.spans]
    return {
        "traceID": trace_hex,
        "spans": spans,
        "processes": {key: _process(process) for process, key in processes.items()},
        "warnings": list(trace.warnings) or None,
    }


def span_tags(span: SpanRecord) -> Tags:
    """A span's tags with those that stand for OpenTelemetry's own fields."""
    made: list[tuple[str, Value]] = []
    if span.kind:
        made.append(("span.kind", span.kind))
    if span.detail.status:
        made.append(("otel.status_code", span.detail.status))
    if span.is_error:
        made.append(("error", True))
    if span.detail.status_message:
        made.append(("otel.status_description", span.detail.status_message))
    if span.detail.trace_state:
        made.append(("w3c.tracestate", span.detail.trace_state))
    return (*span.process.scope_tags, *span.detail.tags, *made)


def is_orphan(span: SpanRecord, known: Iterable[int]) -> bool:
    """Whether a span names a parent that is not in its trace."""
    return span.parent_id != 0 and span.parent_id not in known


def call_links(calls: Sequence[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """Who calls whom, as `/api/dependencies` says it."""
    return [{"parent": parent, "child": child, "callCount": count} for parent, child, count in calls]


def _process_key(processes: dict[Process, str], process: Process) -> str:
    return processes.setdefault(process, f"p{len(processes) + 1}")


def _process(process: Process) -> dict[str, Any]:
    return {"serviceName": process.service, "tags": _key_values(process.tags)}


def _span(span: SpanRecord, trace_hex: str, process_key: str, known: set[int]) -> dict[str, Any]:
    warnings = [f"parent span {span_hex(span.parent_id)} is not in this trace"] if is_orphan(span, known) else None
    return {
        "traceID": trace_hex,
        "spanID": span_hex(span.span_id),
        "flags": 1,
        "operationName": span.operation,
        "references": _references(span, trace_hex),
        "startTime": span.start_us,
        "duration": span.duration_us,
        "tags": _key_values(span_tags(span)),
        "logs": [_log(event) for event in span.detail.events],
        "processID": process_key,
        "warnings": warnings,
    }


def _references(span: SpanRecord, trace_hex: str) -> list[dict[str, str]]:
    parent = [(trace_hex, span.parent_id, "CHILD_OF")] if span.parent_id else []
    links = [(link.trace_id.hex(), link.span_id, "FOLLOWS_FROM") for link in span.detail.links]
    return [
        {"refType": kind, "traceID": trace, "spanID": span_hex(span_id)} for trace, span_id, kind in (*parent, *links)
    ]


def _log(event: Event) -> dict[str, Any]:
    name: Tags = (("event", event.name),) if event.name else ()
    return {"timestamp": event.time_us, "fields": _key_values((*name, *event.tags))}


def _key_values(tags: Tags) -> list[dict[str, Any]]:
    return [_key_value(key, value) for key, value in tags]


def _key_value(key: str, value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": key, "type": "bool", "value": value}
    if isinstance(value, int):
        # JavaScript holds whole numbers exactly only up to 2**53 - 1; Jaeger sends larger ones as text.
        return {"key": key, "type": "int64", "value": value if abs(value) <= _SAFE_INTEGER else str(value)}
    if isinstance(value, float):
        # JSON has no NaN and no infinity.
        return {"key": key, "type": "float64", "value": value if math.isfinite(value) else str(value)}
    if isinstance(value, bytes):
        return {"key": key, "type": "binary", "value": base64.b64encode(value).decode()}
    return {"key": key, "type": "string", "value": value}
