"""One trace as a waterfall: a row a span, its bar in time, its events as marks, everything else on a click.

Positions are percentages of SVG attributes, never inline styles, so the page's policy can forbid those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from services.console import jaeger
from services.console.pages.layout import colours, dot, duration, moment, page, plural, short_operation
from services.console.pages.markup import Html, join, table_row, tag
from services.console.spans import Event, Link, SpanRecord, Tags, Trace, span_hex
from services.console.tagmatch import text
from services.console.timeline import Row, Timeline, lay_out

_DEEPEST_INDENT = 24
_LONGEST_VALUE = 4000
_DRAWN_SPANS = 4000
_NARROWEST = 0.0015
_FIRST_TOKEN = "first_token"


def render(trace: Trace, *, services: Iterable[str] = (), footer: str = "") -> str:
    """The page of one trace. `services`: all that are known, for colours that agree with the list."""
    timeline = lay_out(trace)
    trace_hex = trace.trace_id.hex()
    root = next((row.span for row in timeline.rows if row.span.parent_id == 0), timeline.rows[0].span)
    by_service = colours([*services, *(span.process.service for span in trace.spans)])
    return page(
        f"{root.process.service}: {root.operation}",
        tag("h1", dot(by_service[root.process.service]), root.process.service, ": ", short_operation(root.operation)),
        _facts(trace, timeline, trace_hex, by_service),
        tag("div", *_notices(trace, timeline), class_="notices"),
        _tools(),
        tag(
            "div",
            _axis(timeline),
            *(_row(row, timeline, by_service) for row in timeline.rows[:_DRAWN_SPANS]),
            class_="waterfall",
        ),
        footer=footer,
        trace_id=trace_hex,
    )


def _facts(trace: Trace, timeline: Timeline, trace_hex: str, by_service: dict[str, str]) -> Html:
    services = Counter(span.process.service for span in trace.spans)
    first_tokens = [e.time_us for span in trace.spans for e in span.detail.events if e.name == _FIRST_TOKEN]
    facts = [
        tag("span", "Start ", tag("b", moment(timeline.start_us, form="full"))),
        tag("span", "Duration ", tag("b", duration(timeline.duration_us))),
    ]
    if first_tokens:
        facts.append(tag("span", "First token ", tag("b", f"+{duration(min(first_tokens) - timeline.start_us)}")))
    facts += [
        tag("span", "Spans ", tag("b", f"{len(trace.spans):,}")),
        tag("span", "Depth ", tag("b", str(1 + max(row.depth for row in timeline.rows)))),
        tag(
            "span",
            *(
                tag("span", dot(by_service[name]), f"{name} {count}", class_="chip")
                for name, count in services.most_common()
            ),
        ),
        tag("span", tag("code", trace_hex, class_="dim"), " · ", tag("a", "JSON", href=f"/api/traces/{trace_hex}")),
    ]
    return tag("div", *facts, class_="facts")


def _notices(trace: Trace, timeline: Timeline) -> list[Html]:
    orphans = sum(row.is_orphan for row in timeline.rows)
    roots = sum(row.span.parent_id == 0 for row in timeline.rows)
    failed = sum(row.span.is_error for row in timeline.rows)
    notices = [tag("div", warning, class_="notice") for warning in trace.warnings]
    if failed:
        notices.append(tag("div", f"{plural(failed, 'span')} failed.", class_="notice bad"))
    if orphans:
        said = f"{plural(orphans, 'orphan')}: the parent is not in this trace. It may still be on its way, or was lost."
        notices.append(tag("div", said, class_="notice"))
    if roots > 1:
        notices.append(
            tag("div", f"{roots} roots: a service does not pass on the trace of its caller.", class_="notice")
        )
    if len(timeline.rows) > _DRAWN_SPANS:
        notices.append(tag("div", f"Only the first {_DRAWN_SPANS:,} spans are drawn.", class_="notice"))
    return notices


def _tools() -> Html:
    buttons = (("open-all", "Open all"), ("close-all", "Close all"), ("fold-all", "Fold"), ("unfold-all", "Unfold"))
    return tag(
        "div",
        tag("input", type="search", id="find", placeholder="Find in spans and attributes", aria_label="Find"),
        *(tag("button", label, id=name, type="button") for name, label in buttons),
        class_="tools",
    )


def _axis(timeline: Timeline) -> Html:
    labels = []
    for quarter in range(5):
        anchor, shift = ("start", 4) if quarter < 4 else ("end", -4)
        label = duration(timeline.duration_us * quarter // 4)
        labels.append(tag("text", label, x=f"{quarter * 25}%", y="18", dx=shift, text_anchor=anchor))
    return tag("div", tag("div", "Service and operation"), tag("svg", labels, aria_hidden="true"), class_="axis")


def _row(row: Row, timeline: Timeline, by_service: dict[str, str]) -> Html:
    span = row.span
    css = "span failed" if span.is_error else "span"
    summary = tag(
        "summary", _who(row, by_service[span.process.service]), _bar(row, timeline, by_service[span.process.service])
    )
    return tag(
        "details", summary, _more(row, timeline), class_=css, data_depth=row.depth, id=f"s-{span_hex(span.span_id)}"
    )


def _who(row: Row, css_colour: str) -> Html:
    span = row.span
    flags = []
    if span.is_error:
        flags.append(tag("span", "error", class_="chip bad"))
    if row.is_orphan:
        flags.append(tag("span", "orphan", class_="chip warn"))
    return tag(
        "div",
        tag("button", "▼" if row.child_count else "", class_="fold", type="button", aria_label="Fold children"),
        tag("span", class_=f"strip {css_colour}"),
        tag("span", tag("span", span.process.service, class_="svc"), " ", short_operation(span.operation), class_="op",
            title=f"{span.process.service}: {span.operation}"),
        *flags,
        class_=f"who d{min(row.depth, _DEEPEST_INDENT)}",
    )  # fmt: skip


def _bar(row: Row, timeline: Timeline, css_colour: str) -> Html:
    span = row.span
    left = timeline.fraction(span.start_us)
    width = max(_NARROWEST, timeline.fraction(span.start_us + span.duration_us) - left)
    left = min(left, 1 - width)
    return tag(
        "svg",
        tag("rect", x=_percent(left), y="7", width=_percent(width), height="12", rx="2", class_=f"main {css_colour}"),
        _length_label(span, left, left + width),
        *(_mark(event, timeline) for event in span.detail.events),
        class_="bar",
        role="img",
        aria_label=f"{duration(span.duration_us)}, from +{duration(span.start_us - timeline.start_us)}",
    )


def _length_label(span: SpanRecord, left: float, right: float) -> Html:
    label = duration(span.duration_us)
    if right < 0.86:
        return tag("text", label, x=_percent(right), dx="6", y="17")
    if left > 0.14:
        return tag("text", label, x=_percent(left), dx="-6", y="17", text_anchor="end")
    return tag("text", label, x=_percent(right), dx="-6", y="17", text_anchor="end", class_="in")


def _mark(event: Event, timeline: Timeline) -> Html:
    said = f"{event.name} +{duration(max(0, event.time_us - timeline.start_us))}"
    css = "mark first" if event.name == _FIRST_TOKEN else "mark"
    shape = tag("path", tag("title", said), d="M0 8 L5 13 L0 18 L-5 13 Z", class_=css)
    return tag("svg", shape, x=_percent(timeline.fraction(event.time_us)), overflow="visible")


def _more(row: Row, timeline: Timeline) -> Html:
    span = row.span
    ids: Tags = (
        ("operation", span.operation),
        ("start", f"+{duration(span.start_us - timeline.start_us)}"),
        ("duration", duration(span.duration_us)),
        ("span id", span_hex(span.span_id)),
        (
            "parent",
            span_hex(span.parent_id) + (" (not in this trace)" if row.is_orphan else "") if span.parent_id else "none",
        ),
    )
    parts = [_table("Span", ids), _table("Attributes", jaeger.span_tags(span)), _table("Process", span.process.tags)]
    parts += [_event_table(event, timeline) for event in span.detail.events]
    if span.detail.links:
        parts.append(tag("div", tag("h3", "Links"), *(_link(link) for link in span.detail.links)))
    return tag("div", *parts, class_="more")


def _event_table(event: Event, timeline: Timeline) -> Html:
    heading = f"Event {event.name} at +{duration(max(0, event.time_us - timeline.start_us))}"
    return _table(heading, event.tags) or tag("div", tag("h3", heading))


def _link(link: Link) -> Html:
    trace_hex, anchor = link.trace_id.hex(), span_hex(link.span_id)
    return tag("div", tag("a", f"{trace_hex} / {anchor}", href=f"/trace/{trace_hex}#s-{anchor}", class_="mono"))


def _table(heading: str, tags: Tags) -> Html:
    if not tags:
        return Html("")
    rows = (table_row(key, _shortened(text(value))) for key, value in tags)
    return tag("div", tag("h3", heading), tag("table", join(*rows)))


def _shortened(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]} … ({len(value):,} characters)"


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.3f}%"
