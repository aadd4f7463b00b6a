import io
import json
import logging
import re

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

from meshkit.telemetry import logs


@pytest.fixture
def lines():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter("mesh-cache"))
    logger = logging.getLogger("test_logs")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)


log = logs.get_logger("test_logs")


def test_a_line_is_json_with_time_level_service_event_and_fields(lines):
    log.info("registry.away", attempt=3, problem=OSError("x"))
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "info",
        "service": "mesh-cache",
        "event": "registry.away",
        "logger": "test_logs",
        "attempt": 3,
        "problem": "x",
    }


def test_a_field_does_not_overwrite_the_lines_own_keys(lines):
    log.info("registry.away", service="mesh-router", time="never")
    (line,) = lines()
    assert (line["service"], line["service_"], line["time_"]) == ("mesh-cache", "mesh-router", "never")


def test_the_current_trace_and_span_are_in_the_line(lines):
    with use_span(NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False))):
        log.warning("x")
    (line,) = lines()
    assert (line["trace_id"], line["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")


def test_a_stack_stays_on_its_line(lines):
    try:
        raise ValueError("why")
    except ValueError as problem:
        log.error("rpc.crashed", stack=problem)
    (line,) = lines()
    assert "ValueError: why" in line["stack"]
    assert line["level"] == "error"


def test_lines_below_the_level_are_not_written(lines):
    log.debug("x")
    assert lines() == []


def test_text_in_fields_stays_one_line(lines):
    log.info("x", text="a\nb")
    assert lines()[0]["text"] == "a\nb"
