"""Jaeger's query parameters, read or refused by name."""

from __future__ import annotations

import pytest

from services.console import query
from services.console.query import BadQuery, TraceQuery

NOW_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000


@pytest.mark.parametrize(
    ("text", "us"),
    [("1ns", 0), ("5us", 5), ("5µs", 5), ("1.5ms", 1500), ("2s", 2_000_000), ("2h45m", 9_900_000_000), (".5s", 500_000),
     ("2d", 48 * HOUR_US)],
)  # fmt: skip
def test_durations_are_gos(text: str, us: int) -> None:
    assert query.duration_us(text) == us


@pytest.mark.parametrize("text", ["", "5", "ms", "-1s", "1 s", "1s2", "1x", "١s" * 3])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        query.duration_us(text)


def test_all_parameters_are_read() -> None:
    parameters = {
        "service": "s", "operation": "o", "start": "10", "end": "20", "limit": "7", "minDuration": "1ms",
        "maxDuration": "2ms", "tags": '{"error": "true"}', "lookback": "1h",
    }  # fmt: skip
    assert query.parse(parameters, tag_pairs=("a:b:c",), now_us=NOW_US) == TraceQuery(
        service="s", operation="o", start_us=10, end_us=20, limit=7, min_duration_us=1000, max_duration_us=2000,
        tags=(("a", "b:c"), ("error", "true")),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "start_us"),
    [
        ({}, NOW_US - 48 * HOUR_US),
        ({"lookback": "1h"}, NOW_US - HOUR_US),
        ({"lookback": "custom"}, NOW_US - 48 * HOUR_US),
        ({"lookback": "1h", "start": "5"}, 5),
    ],
)
def test_the_start_comes_from_start_else_lookback_else_two_days(parameters: dict[str, str], start_us: int) -> None:
    assert query.parse(parameters, now_us=NOW_US).start_us == start_us


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"limit": "many"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"start": "1.5"}, "start"),
        ({"end": "9" * 30}, "end"),
        ({"minDuration": "fast"}, "minDuration"),
        ({"maxDuration": "1"}, "maxDuration"),
        ({"lookback": "long"}, "lookback"),
        ({"minDuration": "2s", "maxDuration": "1s"}, "maxDuration"),
        ({"tags": "{"}, "tags"),
        ({"tags": "[1]"}, "tags"),
        ({"tags": '{"a": 1}'}, "tags"),
    ],
)
def test_a_bad_parameter_is_named(parameters: dict[str, str], named: str) -> None:
    with pytest.raises(BadQuery, match=named):
        query.parse(parameters, now_us=NOW_US)


def test_a_limit_beyond_the_largest_is_cut() -> None:
    assert query.parse({"limit": "999999"}, now_us=NOW_US).limit == query.LARGEST_LIMIT


def test_a_short_trace_id_is_padded_and_text_is_refused() -> None:
    assert query.trace_id("aB").hex() == f"{0xAB:032x}"
    for text in ("", "xyz", "1" * 33, "../etc"):
        with pytest.raises(BadQuery):
            query.trace_id(text)
