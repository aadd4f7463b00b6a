"""The reading side of the file: services, operations, summaries, whole traces, searches.

Each read opens the file afresh and has a deadline, so that no reader keeps the write-ahead log from being folded, and
a file that was replaced is seen at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshkit.clock import Clock
from services.console import schema
from services.console.query import TraceQuery
from services.console.spans import BodyReader, Origin, Process, SpanRecord, Trace, TraceSummary
from services.console.tagmatch import TagMatch

LARGEST_TRACE_SPANS = 10_000
_LARGEST_ANSWER_SPANS = 20_000

_Row = tuple[int, bytes, int, int, int, int, str | None, str | None]

_SUMMARY = """
SELECT t.id, t.trace_id, t.start_us, t.end_us - t.start_us, t.span_count, t.error_count, o.service, o.name
FROM traces t LEFT JOIN operations o ON o.id = t.root_operation"""
_SERVICES_OF_TRACE = """
SELECT o.service, count(*) FROM spans s JOIN operations o ON o.id = s.operation
WHERE s.trace = ? GROUP BY o.service ORDER BY count(*) DESC, o.service"""
_EARLIEST = """
SELECT o.service FROM spans s JOIN operations o ON o.id = s.operation WHERE s.trace = ? ORDER BY s.start_us LIMIT 1"""
_SPANS_OF_TRACE = """
SELECT s.span_id, s.parent_id, o.name, o.kind, s.start_us, s.duration_us, s.is_error, s.origin, s.body
FROM spans s JOIN operations o ON o.id = s.operation WHERE s.trace = ? ORDER BY s.start_us, s.span_id LIMIT ?"""
_CALLS = """
SELECT p.service, c.service, count(*) FROM spans s
JOIN traces t ON t.id = s.trace
JOIN spans ps ON ps.trace = s.trace AND ps.span_id = s.parent_id
JOIN operations p ON p.id = ps.operation JOIN operations c ON c.id = s.operation
WHERE p.service <> c.service AND t.start_us BETWEEN ? AND ? GROUP BY 1, 2 ORDER BY 1, 2"""


class TooSlow(Exception):
    """The search would take longer than it may; a narrower one will not."""


class Damaged(Exception):
    """The file can't be read; the writer should replace it."""


class Unavailable(Exception):
    """There is no file to read now: none was begun, or the disk refuses."""


class Reader:
    """Reads the file of spans. Safe to use from several threads."""

    def __init__(self, path: Path, bodies: BodyReader, clock: Clock, *, longest_read_s: float) -> None:
        self._path = path
        self._bodies = bodies
        self._clock = clock
        self._longest_read_s = longest_read_s

    def services(self) -> list[str]:
        """Names of all services that have spans."""
        with self._connection() as connection:
            return [row[0] for row in connection.execute("SELECT DISTINCT service FROM operations ORDER BY service")]

    def operations(self, service: str) -> list[tuple[str, str]]:
        """Name and kind of each operation of a service."""
        with self._connection() as connection:
            found = connection.execute(
                "SELECT DISTINCT name, kind FROM operations WHERE service = ? ORDER BY name, kind", (service,)
            )
            return [(name, kind) for name, kind in found]

    def calls(self, start_us: int, end_us: int) -> list[tuple[str, str, int]]:
        """How often each service called each other one."""
        with self._connection() as connection:
            return [(parent, child, count) for parent, child, count in connection.execute(_CALLS, (start_us, end_us))]

    def trace(self, trace_id: bytes) -> Trace | None:
        """One trace, whole up to LARGEST_TRACE_SPANS."""
        with self._connection() as connection:
            row = connection.execute("SELECT id FROM traces WHERE trace_id = ?", (trace_id,)).fetchone()
            return None if row is None else self._read_trace(connection, row[0], trace_id)

    def summaries(self, query: TraceQuery) -> list[TraceSummary]:
        """The newest traces that match, in short."""
        with self._connection() as connection:
            return [_summary(connection, row) for row in self._matching(connection, query)]

    def traces(self, query: TraceQuery) -> Iterator[Trace]:
        """The newest traces that match, whole, until the answer would be too large to hold."""
        span_count = 0
        with self._connection() as connection:
            for row in self._matching(connection, query):
                span_count += row[4]
                if span_count > _LARGEST_ANSWER_SPANS and span_count != row[4]:
                    return
                yield self._read_trace(connection, row[0], row[1])

    def _matching(self, connection: sqlite3.Connection, query: TraceQuery) -> list[_Row]:
        conditions = ["t.start_us BETWEEN ? AND ?"]
        values: list[object] = [query.start_us, query.end_us]
        if query.errors_only:
            conditions.append("t.error_count > 0")
        if query.names_a_span:
            found, found_values = self._span_conditions(connection, query)
            conditions.append(f"EXISTS (SELECT 1 FROM spans s WHERE s.trace = t.id AND {found})")
            values += found_values
        where = " AND ".join(conditions)
        sql = f"{_SUMMARY} WHERE {where} ORDER BY t.start_us DESC LIMIT ?"
        return connection.execute(sql, (*values, query.limit)).fetchall()

    def _span_conditions(self, connection: sqlite3.Connection, query: TraceQuery) -> tuple[str, list[object]]:
        conditions: list[str] = ["s.duration_us BETWEEN ? AND ?"]
        values: list[object] = [query.min_duration_us, query.max_duration_us]
        if query.service or query.operation:
            named = [(c, v) for c, v in (("service", query.service), ("name", query.operation)) if v]
            conditions.append(
                f"s.operation IN (SELECT id FROM operations WHERE {' AND '.join(f'{c} = ?' for c, _ in named)})"
            )
            values += [v for _, v in named]
        if query.tags:
            match = TagMatch(query.tags, self._bodies, self._origins(connection))
            connection.create_function("has_tags", 4, match)
            conditions.append(
                "has_tags(s.body, s.origin, s.is_error, (SELECT kind FROM operations WHERE id = s.operation))"
            )
        return " AND ".join(conditions), values

    def _read_trace(self, connection: sqlite3.Connection, key: int, trace_id: bytes) -> Trace:
        rows = connection.execute(_SPANS_OF_TRACE, (key, LARGEST_TRACE_SPANS + 1)).fetchall()
        origins = self._origins(connection, {row[7] for row in rows})
        warnings = (f"only the first {LARGEST_TRACE_SPANS} spans are shown",) if len(rows) > LARGEST_TRACE_SPANS else ()
        spans = tuple(
            SpanRecord(
                span_id=span_id,
                parent_id=parent_id,
                operation=operation,
                kind=kind,
                start_us=start_us,
                duration_us=duration_us,
                is_error=bool(is_error),
                process=origins[origin],
                detail=self._bodies.detail(body),
            )
            for span_id, parent_id, operation, kind, start_us, duration_us, is_error, origin, body in rows[
                :LARGEST_TRACE_SPANS
            ]
        )
        return Trace(trace_id=trace_id, spans=spans, warnings=warnings)

    def _origins(self, connection: sqlite3.Connection, keys: set[int] | None = None) -> dict[int, Process]:
        rows = connection.execute("SELECT id, service, resource, scope FROM origins").fetchall()
        return {
            key: self._bodies.process(Origin(service=service, resource=resource, scope=scope))
            for key, service, resource, scope in rows
            if keys is None or key in keys
        }

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        deadline = self._clock.now() + self._longest_read_s
        try:
            connection = schema.open_for_reading(self._path)
            try:
                connection.set_progress_handler(lambda: self._clock.now() > deadline, 20_000)
                connection.execute("BEGIN")
                yield connection
            finally:
                connection.close()
        except sqlite3.DatabaseError as problem:
            if schema.is_damage(problem):
                raise Damaged(str(problem)) from problem
            if getattr(problem, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise TooSlow("the search took too long: narrow it by service, time or duration") from None
            raise Unavailable(f"the trace file can't be read: {problem}") from problem


def _summary(connection: sqlite3.Connection, row: _Row) -> TraceSummary:
    key, trace_id, start_us, duration_us, span_count, error_count, service, operation = row
    if service is None:
        earliest = connection.execute(_EARLIEST, (key,)).fetchone()
        service = earliest[0] if earliest else ""
    return TraceSummary(
        trace_id=trace_id,
        start_us=start_us,
        duration_us=duration_us,
        span_count=span_count,
        error_count=error_count,
        root_service=service,
        root_operation=operation or "",
        services=tuple(connection.execute(_SERVICES_OF_TRACE, (key,)).fetchall()),
    )
