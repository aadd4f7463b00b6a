"""The list of traces: a form that filters, a plot of durations over time, and a line a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10

from services.console.pages.layout import colours, dot, duration, moment, page, plural, short_operation
from services.console.pages.markup import Html, tag
from services.console.spans import TraceSummary

_LOOKBACKS = (("5m", "5 minutes"), ("1h", "hour"), ("6h", "6 hours"), ("1d", "day"), ("2d", "2 days"), ("7d", "7 days"))
_LIMITS = ("20", "50", "100", "200")
_SHOWN_SERVICES = 8


def render(
    traces: Sequence[TraceSummary],
    *,
    services: Sequence[str],
    operations: Sequence[str],
    filters: Mapping[str, str],
    problem: str = "",
    footer: str = "",
) -> str:
    """The page, for the traces that were found."""
    content: list[Html] = [_form(services, operations, filters)]
    if problem:
        content.append(tag("div", problem, class_="notice bad"))
    elif traces:
        by_service = colours([*services, *(trace.root_service for trace in traces)])
        content += [_scatter(traces, by_service), _table(traces, by_service)]
    else:
        content.append(tag("p", "No traces match. Widen the time, or drop a filter.", class_="dim"))
    return page("Traces · Mesh console", *content, footer=footer)


def _form(services: Sequence[str], operations: Sequence[str], filters: Mapping[str, str]) -> Html:
    service, lookback = filters.get("service", ""), filters.get("lookback", "2d")
    return tag(
        "form",
        _label("Service", _select("service", (("", "all"), *((name, name) for name in services)), service)),
        tag("label", "Operation", tag("input", name="operation", value=filters.get("operation", ""), list="operations",
            placeholder="any"), tag("datalist", [tag("option", value=name) for name in operations], id="operations"),
            class_="wide"),
        _text("Tags", "tags", filters, placeholder="mesh.tenant=default error=true", css="wide"),
        _text("Longer than", "minDuration", filters, placeholder="100ms", css="short"),
        _text("Shorter than", "maxDuration", filters, placeholder="2s", css="short"),
        _label("Within the last", _select("lookback", _LOOKBACKS, lookback)),
        _label("Show", _select("limit", [(n, n) for n in _LIMITS], filters.get("limit", "20"))),
        tag("label", tag("input", type="checkbox", name="errors", value="1", checked=bool(filters.get("errors"))),
            "only errors", class_="check"),
        tag("button", "Find"),
        class_="filters",
        method="get",
        action="/",
    )  # fmt: skip


def _label(name: str, field: Html) -> Html:
    return tag("label", name, field)


def _text(label: str, name: str, filters: Mapping[str, str], *, placeholder: str, css: str) -> Html:
    return tag(
        "label", label, tag("input", name=name, value=filters.get(name, ""), placeholder=placeholder), class_=css
    )


def _select(name: str, choices: Sequence[tuple[str, str]], chosen: str) -> Html:
    options = [tag("option", label, value=value, selected=value == chosen) for value, label in choices]
    return tag("select", options, name=name)


def _scatter(traces: Sequence[TraceSummary], by_service: Mapping[str, str]) -> Html:
    """Start time across, duration up on a logarithmic scale; a dot opens its trace."""
    starts = [trace.start_us for trace in traces]
    levels = [log10(max(1, trace.duration_us)) for trace in traces]
    first, width = min(starts), max(1, max(starts) - min(starts))
    low, height = min(levels) - 0.1, max(0.3, max(levels) - min(levels) + 0.2)
    dots = []
    for trace, level in zip(traces, levels, strict=True):
        x, y = 6 + 90 * (trace.start_us - first) / width, 88 - 76 * (level - low) / height
        radius = min(9.0, 3.5 + log10(max(1, trace.span_count)) * 1.6)
        css = "bad" if trace.error_count else by_service[trace.root_service]
        name = f"{trace.root_service} {short_operation(trace.root_operation)}"
        said = f"{name} · {duration(trace.duration_us)} · {plural(trace.span_count, 'span')}"
        shape = tag("circle", tag("title", said), cx=f"{x:.2f}%", cy=f"{y:.2f}%", r=f"{radius:.1f}", class_=css)
        dots.append(tag("a", shape, href=f"/trace/{trace.trace_id.hex()}"))
    rules = []
    for share in (0.08, 0.5, 0.92):
        y = 88 - 76 * share
        rules.append(tag("line", x1="0", x2="100%", y1=f"{y:.1f}%", y2=f"{y:.1f}%", class_="rule"))
        rules.append(tag("text", duration(round(10 ** (low + height * share))), x="8", y=f"{y:.1f}%", dy="-4"))
    return tag("svg", *rules, *dots, class_="scatter", role="img", aria_label="Durations over time")


def _table(traces: Sequence[TraceSummary], by_service: Mapping[str, str]) -> Html:
    longest = max(trace.duration_us for trace in traces)
    heads = ("Started", "Trace", "Duration", "", "Spans", "Services")
    head = tag("tr", [tag("th", name) for name in heads])
    return tag(
        "table",
        tag("thead", head),
        tag("tbody", [_line(trace, longest, by_service) for trace in traces]),
        class_="traces",
    )


def _line(trace: TraceSummary, longest: int, by_service: Mapping[str, str]) -> Html:
    trace_hex = trace.trace_id.hex()
    share = max(0.5, 100 * trace.duration_us / max(1, longest))
    operation = short_operation(trace.root_operation) or "(root not here yet)"
    flags = [tag("span", plural(trace.error_count, "error"), class_="chip bad")] if trace.error_count else []
    shown = trace.services[:_SHOWN_SERVICES]
    chips = [tag("span", dot(by_service.get(name, "")), f"{name} {count}", class_="chip") for name, count in shown]
    if len(trace.services) > _SHOWN_SERVICES:
        chips.append(tag("span", f"+{len(trace.services) - _SHOWN_SERVICES}", class_="chip"))
    return tag(
        "tr",
        tag("td", moment(trace.start_us, form="full"), class_="when"),
        tag("td", tag("a", dot(by_service[trace.root_service]), tag("b", trace.root_service), " ", operation,
            href=f"/trace/{trace_hex}"), " ", *flags, tag("div", trace_hex, class_="mono dim")),
        tag("td", duration(trace.duration_us), class_="when"),
        tag("td", tag("svg", tag("rect", width=f"{share:.2f}%", height="100%", rx="2",
            class_=by_service[trace.root_service])), class_="bar"),
        tag("td", f"{trace.span_count:,}"),
        tag("td", *chips),
    )  # fmt: skip
