"""The console's nouns: a span as it arrives, a span as it is read back, a trace and its summary.

Times are microseconds, as in Jaeger's JSON. A span id is a signed 64-bit number, which is what SQLite can hold; at
the edges it is 16 hexadecimal digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Value = str | bool | int | float | bytes
Tags = tuple[tuple[str, Value], ...]


def span_hex(span_id: int) -> str:
    """16 hexadecimal digits."""
    return f"{span_id & 0xFFFF_FFFF_FFFF_FFFF:016x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who recorded a span: the process and the instrumentation scope, shared by the spans of one batch."""

    service: str
    resource: bytes
    scope: bytes


@dataclass(slots=True, kw_only=True)
class IncomingSpan:
    """A span on its way to the disk. Not frozen: freezing costs 1 us a span, a third of its decoding."""

    trace_id: bytes
    span_id: int
    parent_id: int
    """0: a root."""
    operation: str
    kind: str
    start_us: int
    duration_us: int
    is_error: bool
    origin: Origin
    body: bytes
    """Everything else, in the sender's encoding; opaque to the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at one moment of a span, such as `first_token`."""

    time_us: int
    name: str
    tags: Tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A span of another trace (or branch) that this one follows from."""

    trace_id: bytes
    span_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanDetail:
    """What a span's body holds."""

    tags: Tags = ()
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    status: str = ""
    """OK, ERROR or empty."""
    status_message: str = ""
    trace_state: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Who recorded a span, read back."""

    service: str
    tags: Tags
    scope_tags: Tags


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord:
    """A stored span, read back whole."""

    span_id: int
    parent_id: int
    operation: str
    kind: str
    start_us: int
    duration_us: int
    is_error: bool
    process: Process
    detail: SpanDetail


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Spans of one trace, by start time."""

    trace_id: bytes
    spans: tuple[SpanRecord, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """One line of the list of traces."""

    trace_id: bytes
    start_us: int
    duration_us: int
    span_count: int
    error_count: int
    root_service: str
    root_operation: str
    """Empty while no root has arrived."""
    services: tuple[tuple[str, int], ...] = field(default=())
    """Span count by service, the busiest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyReader:
    """The inverse of the sender's encoding; `otlp.BODY_READER` is the real one."""

    detail: Callable[[bytes], SpanDetail]
    process: Callable[[Origin], Process]
