"""The waterfall in the terminal: every line fits, every span stands once, nothing steers the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from meshctl.waterfall import _columns, render

TRACE = "ab" * 16


def span(
    span_id: str, parent: str = "", *, name: str = "step", start: int = 0, duration: int = 1000, process: str = "p1",
    events: tuple[tuple[str, int], ...] = (), error: bool = False,
) -> dict[str, Any]:  # fmt: skip
    return {
        "traceID": TRACE,
        "spanID": span_id,
        "operationName": name,
        "references": [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": parent}] if parent else [],
        "startTime": 1_700_000_000_000_000 + start,
        "duration": duration,
        "tags": [{"key": "error", "type": "bool", "value": True}] if error else [],
        "logs": [
            {"timestamp": 1_700_000_000_000_000 + at, "fields": [{"key": "event", "type": "string", "value": event}]}
            for event, at in events
        ],
        "processID": process,
        "warnings": None,
    }


def trace(*spans: dict[str, Any]) -> dict[str, Any]:
    processes = {"p1": {"serviceName": "router", "tags": []}, "p2": {"serviceName": "cache", "tags": []}}
    return {"traceID": TRACE, "spans": list(spans), "processes": processes, "warnings": None}


def lines(drawn: str) -> list[str]:
    return drawn.splitlines()[2:]


def test_a_trace_is_drawn_with_depth_bars_and_durations() -> None:
    drawn = render(
        trace(
            span("b", "a", name="Lookup", start=2_000, duration=3_000, process="p2"),
            span("a", name="mesh.router.v1.RouterService/Generate", duration=10_000, events=(("first_token", 5_000),)),
        ),
        80,
    )
    assert drawn.splitlines()[0] == f"trace {TRACE} · 10 ms · 2 spans · first token +5 ms"
    assert lines(drawn) == [
        "router RouterService/Generate  ███████████████████◆███████████████████     10 ms",
        "  cache Lookup                        ▐███████████▌                         3 ms",
    ]


@pytest.mark.parametrize("width", [60, 79, 80, 121, 200])
def test_no_line_is_wider_than_asked(width: int) -> None:
    ids = ["", *(f"{n:x}" for n in range(30))]
    spans = [span(ids[n + 1], ids[n], name="操作" * n, start=n * 7, duration=40 - n) for n in range(30)]
    assert max(_columns(line) for line in render(trace(*spans), width).splitlines()) <= width


def test_a_narrow_terminal_still_gets_a_drawing() -> None:
    assert max(map(len, lines(render(trace(span("a")), 5)))) <= 60


def test_failed_and_orphaned_spans_are_marked_and_counted() -> None:
    drawn = render(trace(span("a", error=True), span("b", "gone", start=5)), 80)
    assert lines(drawn)[0].startswith("✗ router")
    assert lines(drawn)[1].startswith("? router")
    assert drawn.endswith("✗ 1 span failed\n? 1 orphan: the parent is not in this trace")


def test_events_other_than_the_first_token_are_named_below() -> None:
    drawn = render(trace(span("a", events=(("retry", 500), ("first_token", 500)))), 80)
    assert "◆" in lines(drawn)[0]
    assert lines(drawn)[1] == "◇ retry"


def test_every_span_of_a_cycle_stands_once() -> None:
    drawn = render(trace(span("a", "b", name="one"), span("b", "a", name="two"), span("c", "c", name="three")), 80)
    assert sorted(line.split()[1] for line in lines(drawn)) == ["one", "three", "two"]


def test_control_characters_of_names_do_not_reach_the_terminal() -> None:
    drawn = render(trace(span("a", name="\x1b[2Jgone\r\n\u202e")), 80)
    assert "\x1b" not in drawn
    assert "\r" not in drawn
    assert "\u202e" not in drawn
    assert len(lines(drawn)) == 1


def test_jaegers_whole_answer_is_taken_too() -> None:
    one = trace(span("a"))
    assert render({"data": [one]}, 80) == render(one, 80)


@pytest.mark.parametrize("empty", [{"data": []}, {"data": None}, {"spans": []}, {}])
def test_nothing_to_draw_is_said(empty: dict[str, Any]) -> None:
    assert render(empty, 80) == "no spans"


def test_spans_of_no_length_and_far_apart_are_still_seen() -> None:
    drawn = render(trace(span("a", duration=0), span("b", "a", start=3_600_000_000, duration=0)), 80)
    assert all(any(block in line for block in "▏▎▍▌▋▊▉█▐") for line in lines(drawn))
