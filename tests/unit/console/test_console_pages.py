"""The pages: laid out right, everything escaped, nothing that the policy would have to allow."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from services.console.pages import layout, list_page, trace_page
from services.console.pages.markup import Html, join, tag
from services.console.spans import Trace, TraceSummary
from services.console.timeline import lay_out
from tests.support.otlp_spans import MadeSpan, generate_trace

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
VOID = {"meta", "link", "input", "br", "hr"}


class Parsed(HTMLParser):
    """Elements and attributes of a page; notes what is not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def count(self, name: str, css_class: str = "") -> int:
        return sum(
            n == name and (not css_class or css_class in (a.get("class") or "").split()) for n, a in self.elements
        )


def summary(**change: object) -> TraceSummary:
    values: dict[str, object] = {
        "trace_id": b"\1" * 16, "start_us": 1_700_000_000_000_000, "duration_us": 1500, "span_count": 3,
        "error_count": 0, "root_service": "router", "root_operation": "Generate", "services": (("router", 3),),
    }  # fmt: skip
    return TraceSummary(**{**values, **change})  # type: ignore[arg-type]


def assert_safe(page: str) -> Parsed:
    parsed = Parsed(page)
    assert not parsed.open
    assert parsed.count("script") == 1
    assert parsed.count("img") == 0
    for _, attributes in parsed.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert not re.match(r"\w+:(?!,)", attributes.get("href") or "")
    return parsed


def test_text_is_escaped_unless_it_was_made_as_markup() -> None:
    assert tag("b", "<", Html("<i></i>"), title='"') == '<b title="&quot;">&lt;<i></i></b>'
    assert join(["a", "&"]) == "a&amp;"
    assert tag("rect", x=0, hidden=False, open=True) == '<rect x="0" open></rect>'


def test_a_trace_full_of_markup_shows_it_as_text(read_back: Callable[..., Trace]) -> None:
    evil = MadeSpan(operation=EVIL, service=EVIL, tags={EVIL: EVIL}, events=((EVIL, 1, {EVIL: EVIL}),), error=EVIL)
    assert_safe(trace_page.render(read_back(evil), services=[EVIL], footer=EVIL))


def test_a_list_full_of_markup_shows_it_as_text() -> None:
    evil = summary(root_service=EVIL, root_operation=EVIL, services=((EVIL, 3),))
    filters = dict.fromkeys(("service", "operation", "tags", "minDuration", "maxDuration", "lookback", "limit"), EVIL)
    page = list_page.render([evil], services=[EVIL], operations=[EVIL], filters=filters, footer=EVIL)
    assert_safe(page)
    assert_safe(list_page.render([], services=[], operations=[], filters=filters, problem=EVIL))
    assert_safe(layout.error_page(404, EVIL))


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else() -> None:
    assert "unsafe" not in layout.POLICY
    assert layout.POLICY.startswith("default-src 'none'")


def test_a_waterfall_has_a_row_a_span_and_a_mark_an_event(read_back: Callable[..., Trace]) -> None:
    page = trace_page.render(read_back(*generate_trace(1)))
    parsed = assert_safe(page)
    assert (parsed.count("details", "span"), parsed.count("rect", "main"), parsed.count("path", "first")) == (6, 6, 1)
    assert "First token" in page


def test_failed_and_orphaned_spans_are_flagged(read_back: Callable[..., Trace]) -> None:
    page = trace_page.render(read_back(MadeSpan(), MadeSpan(span=2, parent=9), MadeSpan(span=3, parent=1, error="e")))
    parsed = assert_safe(page)
    assert (parsed.count("details", "failed"), page.count(">orphan<")) == (1, 1)
    assert "1 orphan: the parent is not in this trace" in page


def test_two_thousand_spans_are_drawn_in_bounded_time_and_size(read_back: Callable[..., Trace]) -> None:
    trace = read_back(*(MadeSpan(span=n, parent=max(0, n // 2), start_ms=n, tags={"n": n}) for n in range(1, 2001)))
    began = time.perf_counter()
    page = trace_page.render(trace)
    # About 0.3 s here; ten times that still answers a person.
    assert time.perf_counter() - began < 3
    assert page.count("<details") == 2000
    assert len(page) < 6_000_000


def test_parents_come_before_children_and_siblings_by_start(read_back: Callable[..., Trace]) -> None:
    trace = read_back(MadeSpan(span=1), MadeSpan(span=2, parent=1, start_ms=5), MadeSpan(span=3, parent=1, start_ms=2),
                      MadeSpan(span=4, parent=2, start_ms=1), MadeSpan(span=5, parent=99, start_ms=0.5))  # fmt: skip
    rows = [(row.span.span_id, row.depth, row.is_orphan) for row in lay_out(trace).rows]
    assert rows == [(1, 0, False), (3, 1, False), (2, 1, False), (4, 2, False), (5, 0, True)]


def test_a_cycle_of_parents_is_cut_and_every_span_drawn_once(read_back: Callable[..., Trace]) -> None:
    trace = read_back(MadeSpan(span=1, parent=3), MadeSpan(span=2, parent=1), MadeSpan(span=3, parent=2),
                      MadeSpan(span=4, parent=4))  # fmt: skip
    assert sorted(row.span.span_id for row in lay_out(trace).rows) == [1, 2, 3, 4]
    assert_safe(trace_page.render(trace))


def test_services_keep_their_colours_and_share_none_while_enough_are_left() -> None:
    services = [f"mesh-{n}" for n in range(12)]
    chosen = layout.colours(services)
    assert len(set(chosen.values())) == 12
    assert chosen == layout.colours(reversed(services))


@pytest.mark.parametrize(
    ("us", "text"),
    [(0, "0 µs"), (999, "999 µs"), (1500, "1.5 ms"), (999_900, "1 s"), (1_500_000, "1.5 s"), (59_999_999, "60 s"),
     (61_000_000, "1 min 1 s"), (7_260_000_000, "2 h 1 min")],
)  # fmt: skip
def test_durations_are_written_in_a_fitting_unit(us: int, text: str) -> None:
    assert layout.duration(us) == text


def test_times_outside_the_calendar_do_not_break_the_page() -> None:
    assert_safe(layout.page("t", layout.moment(2**62)))
