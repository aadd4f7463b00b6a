"""From OTLP to Jaeger's JSON: every field by name and type."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.console import jaeger, otlp
from services.console.otlp import Refused
from services.console.spans import SpanRecord, Trace
from tests.support.otlp_spans import START_NS, MadeSpan, export, generate_trace

START_US = START_NS // 1000


def test_a_trace_has_exactly_jaegers_fields(read_back: Callable[..., Trace]) -> None:
    parent = MadeSpan(span=1)
    child = MadeSpan(span=2, parent=1, service="cache", operation="Lookup", kind="", start_ms=1.5,
                     duration_ms=2.25, error="broken", tags={"n": 3}, links=((9, 8),),
                     events=(("retry", 2, {"attempt": 2}),))  # fmt: skip
    found = jaeger.trace_json(read_back(parent, child))
    trace_hex, process_tags = f"{1:032x}", [{"key": "service.instance.id", "type": "string", "value": "i-1"}]
    assert {key: value for key, value in found.items() if key != "spans"} == {
        "traceID": trace_hex,
        "processes": {
            "p1": {"serviceName": "router", "tags": process_tags},
            "p2": {"serviceName": "cache", "tags": process_tags},
        },
        "warnings": None,
    }
    assert found["spans"][1] == {
        "traceID": trace_hex,
        "spanID": f"{2:016x}",
        "flags": 1,
        "operationName": "Lookup",
        "references": [
            {"refType": "CHILD_OF", "traceID": trace_hex, "spanID": f"{1:016x}"},
            {"refType": "FOLLOWS_FROM", "traceID": f"{9:032x}", "spanID": f"{8:016x}"},
        ],
        "startTime": START_US + 1500,
        "duration": 2250,
        "tags": [
            {"key": "otel.scope.name", "type": "string", "value": "tests"},
            {"key": "n", "type": "int64", "value": 3},
            {"key": "otel.status_code", "type": "string", "value": "ERROR"},
            {"key": "error", "type": "bool", "value": True},
            {"key": "otel.status_description", "type": "string", "value": "broken"},
        ],
        "logs": [
            {
                "timestamp": START_US + 2000,
                "fields": [
                    {"key": "event", "type": "string", "value": "retry"},
                    {"key": "attempt", "type": "int64", "value": 2},
                ],
            }
        ],
        "processID": "p2",
        "warnings": None,
    }


@pytest.mark.parametrize(
    ("value", "kind", "written"),
    [
        ("text", "string", "text"),
        (True, "bool", True),
        (0, "int64", 0),
        (2**53, "int64", str(2**53)),
        (1.5, "float64", 1.5),
        (float("nan"), "float64", "nan"),
        (b"\x00\xff", "binary", "AP8="),
        (["a", 1], "string", '["a", 1]'),
        ({"a": [True]}, "string", '{"a": [true]}'),
    ],
)
def test_each_kind_of_value_has_jaegers_type(
    read_span: Callable[[MadeSpan], SpanRecord], value: object, kind: str, written: object
) -> None:
    span = read_span(MadeSpan(tags={"key": value}))
    found: Any = jaeger.trace_json(Trace(trace_id=b"\1" * 16, spans=(span,)))["spans"][0]["tags"][1]
    assert found == {"key": "key", "type": kind, "value": written}
    assert "NaN" not in json.dumps(found)


def test_an_orphan_carries_a_warning(read_back: Callable[..., Trace]) -> None:
    found = jaeger.trace_json(read_back(MadeSpan(span=1), MadeSpan(span=2, parent=77)))
    assert [span["warnings"] for span in found["spans"]] == [None, [f"parent span {77:016x} is not in this trace"]]


def test_processes_are_shared_by_the_spans_of_one_process(read_back: Callable[..., Trace]) -> None:
    found = jaeger.trace_json(read_back(*generate_trace(1)))
    names = {key: process["serviceName"] for key, process in found["processes"].items()}
    assert names == {"p1": "router", "p2": "cache", "p3": "compressor", "p4": "inference"}
    assert [names[span["processID"]] for span in found["spans"]].count("inference") == 2


def broken(**change: Any) -> ExportTraceServiceRequest:
    request = export(MadeSpan())
    span = request.resource_spans[0].scope_spans[0].spans[0]
    for name, value in change.items():
        setattr(span, name, value)
    return request


@pytest.mark.parametrize(
    "request_",
    [
        broken(trace_id=b""),
        broken(trace_id=bytes(16)),
        broken(trace_id=b"\1" * 15),
        broken(span_id=b""),
        broken(span_id=bytes(8)),
        broken(start_time_unix_nano=2**64 - 1),
        export(MadeSpan(tags={"text": "x" * 70_000})),
    ],
)
def test_a_span_that_cannot_be_kept_is_refused_with_a_reason(request_: ExportTraceServiceRequest) -> None:
    (found,) = otlp.spans(request_)
    assert isinstance(found, Refused)
    assert found.reason


def test_a_span_that_ends_before_it_starts_lasts_nothing(read_span: Callable[[MadeSpan], SpanRecord]) -> None:
    assert read_span(MadeSpan(duration_ms=-5)).duration_us == 0


def test_a_process_without_a_name_is_unknown_service() -> None:
    request = export(MadeSpan())
    del request.resource_spans[0].resource.attributes[:]
    (span,) = otlp.spans(request)
    assert not isinstance(span, Refused)
    assert span.origin.service == "unknown_service"
