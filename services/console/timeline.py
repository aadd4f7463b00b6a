"""The order and depth in which a trace's spans are drawn: each parent before its children, children by start time.

A span whose parent is not in the trace is an orphan: it is drawn at the top level and flagged. A cycle of parents,
which only a broken sender makes, is cut at its earliest span.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.console.spans import SpanRecord, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the waterfall."""

    span: SpanRecord
    depth: int
    child_count: int
    is_orphan: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A trace laid out in time. `start_us` and `duration_us` span all its rows."""

    rows: tuple[Row, ...]
    start_us: int
    duration_us: int

    def fraction(self, time_us: int) -> float:
        """Where a moment lies, 0 to 1."""
        return min(1.0, max(0.0, (time_us - self.start_us) / max(1, self.duration_us)))


def lay_out(trace: Trace) -> Timeline:
    """Order a trace's spans for drawing."""
    known = {span.span_id for span in trace.spans}
    children: dict[int, list[SpanRecord]] = {}
    for span in trace.spans:
        children.setdefault(_parent(span, known), []).append(span)
    start_us = min((span.start_us for span in trace.spans), default=0)
    end_us = max((span.start_us + span.duration_us for span in trace.spans), default=0)
    return Timeline(rows=tuple(_rows(trace.spans, children, known)), start_us=start_us, duration_us=end_us - start_us)


def _rows(spans: Sequence[SpanRecord], children: dict[int, list[SpanRecord]], known: set[int]) -> Iterator[Row]:
    drawn: set[int] = set()
    for top in (*children.get(0, ()), *spans):
        stack = [(top, 0)] if top.span_id not in drawn else []
        while stack:
            span, depth = stack.pop()
            if span.span_id in drawn:
                continue
            drawn.add(span.span_id)
            below = children.get(span.span_id, [])
            is_orphan = span.parent_id != 0 and span.parent_id not in known
            yield Row(span=span, depth=depth, child_count=len(below), is_orphan=is_orphan)
            stack += [(child, depth + 1) for child in reversed(below)]


def _parent(span: SpanRecord, known: set[int]) -> int:
    return span.parent_id if span.parent_id in known and span.parent_id != span.span_id else 0
