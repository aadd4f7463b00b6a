"""One trace as a waterfall of text, from Jaeger's JSON.

Bars are drawn in eighths of a character. Events stand on the bar: `◆` for the first token, `◇` for others. A failed
span is marked `✗`, one whose parent is missing `?`. No colours: the text can be piped, and a caller may add them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FIRST_TOKEN = "first_token"
_SMALLEST_WIDTH = 60
_DEEPEST_INDENT = 12
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bar:
    name: str
    depth: int
    start_us: int
    duration_us: int
    events: tuple[tuple[str, int], ...]
    is_error: bool
    is_orphan: bool


def render(trace_json: Mapping[str, Any], width: int) -> str:
    """Draw one trace (an element of `data`, or the whole answer with one) at most `width` columns wide."""
    trace = _one_trace(trace_json)
    bars = list(_bars(trace))
    if not bars:
        return "no spans"
    width = max(width, _SMALLEST_WIDTH)
    start_us = min(bar.start_us for bar in bars)
    total_us = max(1, max(bar.start_us + bar.duration_us for bar in bars) - start_us)
    name_width = min(max(_columns(_label(bar)) for bar in bars), width * 45 // 100)
    bar_width = width - name_width - 12
    lines = [_heading(trace, bars, total_us, start_us, width), _axis(name_width, bar_width, total_us)]
    lines += [_line(bar, start_us, total_us, name_width, bar_width) for bar in bars]
    return "\n".join(line.rstrip() for line in (*lines, *_remarks(bars, trace)))


def _one_trace(trace_json: Mapping[str, Any]) -> Mapping[str, Any]:
    data = trace_json.get("data")
    if isinstance(data, list):
        return data[0] if data else {"spans": []}
    return trace_json


def _bars(trace: Mapping[str, Any]) -> Iterator[_Bar]:
    """Each span before its children, children by start time; orphans and the cut ends of cycles at the top level."""
    spans = sorted(trace.get("spans") or (), key=lambda span: (span["startTime"], span["spanID"]))
    known = {span["spanID"] for span in spans}
    children: dict[str, list[Any]] = {}
    for span in spans:
        parent = _parent(span)
        children.setdefault(parent if parent in known else "", []).append(span)
    drawn: set[str] = set()
    for top in (*children.get("", ()), *spans):
        stack = [(top, 0)]
        while stack:
            span, depth = stack.pop()
            if span["spanID"] in drawn:
                continue
            drawn.add(span["spanID"])
            yield _bar(span, depth, trace.get("processes") or {}, known)
            stack += [(child, depth + 1) for child in reversed(children.get(span["spanID"], ()))]


def _bar(span: Mapping[str, Any], depth: int, processes: Mapping[str, Any], known: set[str]) -> _Bar:
    tags = {tag["key"]: tag["value"] for tag in span.get("tags") or ()}
    service = (processes.get(span.get("processID", "")) or {}).get("serviceName", "?")
    parent = _parent(span)
    return _Bar(
        name=_printable(f"{service} {_short_operation(span['operationName'])}"),
        depth=depth,
        start_us=int(span["startTime"]),
        duration_us=int(span["duration"]),
        events=tuple((_event_name(log), int(log["timestamp"])) for log in span.get("logs") or ()),
        is_error=str(tags.get("error", "")).lower() == "true" or tags.get("otel.status_code") == "ERROR",
        is_orphan=bool(parent) and parent not in known,
    )


def _short_operation(operation: str) -> str:
    """mesh.cache.v1.CacheService/Lookup as CacheService/Lookup."""
    service, slash, method = operation.partition("/")
    return f"{service.rpartition('.')[2]}/{method}" if slash and service and " " not in service else operation


def _parent(span: Mapping[str, Any]) -> str:
    own = span["traceID"]
    for reference in span.get("references") or ():
        if reference["refType"] == "CHILD_OF" and reference["traceID"] == own:
            return str(reference["spanID"])
    return ""


def _event_name(log: Mapping[str, Any]) -> str:
    fields = {field["key"]: field["value"] for field in log.get("fields") or ()}
    return _printable(str(fields.get("event") or fields.get("message") or "event"))


def _heading(trace: Mapping[str, Any], bars: list[_Bar], total_us: int, start_us: int, width: int) -> str:
    firsts = [at for bar in bars for name, at in bar.events if name == FIRST_TOKEN]
    parts = [f"trace {trace.get('traceID', '')}", _duration(total_us), _plural(len(bars), "span")]
    if firsts:
        parts.append(f"first token +{_duration(min(firsts) - start_us)}")
    return _fitted(" · ".join(parts), width)


def _axis(name_width: int, bar_width: int, total_us: int) -> str:
    end = _duration(total_us)
    middle = _duration(total_us // 2)
    half = bar_width // 2
    ruler = "0".ljust(half) + middle.ljust(bar_width - half - len(end)) + end
    return f"{' ' * name_width}  {ruler}"


def _line(bar: _Bar, start_us: int, total_us: int, name_width: int, bar_width: int) -> str:
    name = _fitted(_label(bar), name_width)
    return f"{name}  {_drawn(bar, start_us, total_us, bar_width)} {_duration(bar.duration_us):>9}"


def _label(bar: _Bar) -> str:
    flags = ("✗ " if bar.is_error else "") + ("? " if bar.is_orphan else "")
    return "  " * min(bar.depth, _DEEPEST_INDENT) + flags + bar.name


def _drawn(bar: _Bar, start_us: int, total_us: int, width: int) -> str:
    scale = width * 8 / total_us
    first = min(int((bar.start_us - start_us) * scale), width * 8 - 1)
    last = min(max(first + 1, round((bar.start_us + bar.duration_us - start_us) * scale)), width * 8)
    cells = [_cell(first - cell * 8, last - cell * 8) for cell in range(width)]
    for name, at_us in sorted(bar.events, key=lambda event: event[0] == FIRST_TOKEN):
        cell = min(max(0, int((at_us - start_us) * scale / 8)), width - 1)
        cells[cell] = "◆" if name == FIRST_TOKEN else "◇"
    return "".join(cells)


def _cell(first: int, last: int) -> str:
    """A character covered from eighth `first` to eighth `last`; block characters grow only from the left."""
    if last <= 0 or first >= 8:
        return " "
    covered = min(last, 8) - max(first, 0)
    if first <= 0:
        return _EIGHTHS[covered]
    return "▐" if last >= 8 else _EIGHTHS[max(1, covered)]


def _remarks(bars: list[_Bar], trace: Mapping[str, Any]) -> list[str]:
    failed, orphans = sum(bar.is_error for bar in bars), sum(bar.is_orphan for bar in bars)
    names = sorted({name for bar in bars for name, _ in bar.events if name != FIRST_TOKEN})
    remarks = [f"◇ {', '.join(names)}"] if names else []
    if failed:
        remarks.append(f"✗ {_plural(failed, 'span')} failed")
    if orphans:
        remarks.append(f"? {_plural(orphans, 'orphan')}: the parent is not in this trace")
    return remarks + [f"! {_printable(str(warning))}" for warning in trace.get("warnings") or ()]


def _duration(us: int) -> str:
    if us < 1000:
        return f"{us} µs"
    if us < 999_500:
        return f"{us / 1000:.3g} ms"
    return f"{us / 1e6:.3g} s" if us < 999_500_000 else f"{us / 1e6:.0f} s"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _printable(text: str) -> str:
    """Control characters could move the cursor or recolour the terminal; names come from anywhere."""
    return "".join("�" if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char for char in text)


def _columns(text: str) -> int:
    return sum(_char_columns(char) for char in text)


def _char_columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _fitted(text: str, columns: int) -> str:
    """Text in exactly this many columns: cut with an ellipsis, or padded."""
    if _columns(text) <= columns:
        return text + " " * (columns - _columns(text))
    kept, used = "", 0
    for char in text:
        if used + _char_columns(char) > columns - 1:
            break
        kept, used = kept + char, used + _char_columns(char)
    return f"{kept}…" + " " * (columns - used - 1)
