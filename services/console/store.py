"""The writing side of the file: one batch, one transaction; room made where there is none; damage met by a new file.

Used by one thread at a time. Every method may raise StoreFull or sqlite3.Error and OSError; the caller counts what was
lost and goes on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from services.console import caps as capping
from services.console import schema
from services.console.caps import Caps
from services.console.spans import IncomingSpan, Origin

_UPSERT_TRACE = """
INSERT INTO traces (trace_id, received_s, start_us, end_us, span_count, error_count) VALUES (?, ?, ?, ?, 0, 0)
ON CONFLICT (trace_id) DO UPDATE SET start_us = min(start_us, excluded.start_us), end_us = max(end_us, excluded.end_us)
RETURNING id"""
_UPSERT_OPERATION = """
INSERT INTO operations (service, name, kind, last_trace) VALUES (?, ?, ?, ?)
ON CONFLICT (service, name, kind) DO UPDATE SET last_trace = max(last_trace, excluded.last_trace) RETURNING id"""
_UPSERT_ORIGIN = """
INSERT INTO origins (digest, service, resource, scope, last_trace) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET last_trace = max(last_trace, excluded.last_trace) RETURNING id"""
_INSERT_SPAN = "INSERT OR IGNORE INTO spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_COUNTS = "UPDATE traces SET span_count = span_count + ?, error_count = error_count + ? WHERE id = ?"
_RECOUNT = """
UPDATE traces SET (span_count, error_count) = (SELECT count(*), total(is_error) FROM spans WHERE trace = traces.id)
WHERE id = ?"""


class StoreFull(Exception):
    """The cap leaves no room, even after the oldest traces went."""


class Store:
    """The file of spans, open for writing."""

    def __init__(self, path: Path, caps: Caps) -> None:
        self._path = path
        self._caps = caps
        self._connection: sqlite3.Connection | None = None
        self.evicted_trace_count = 0
        self.moved_aside_count = 0

    def write(self, spans: Sequence[IncomingSpan], *, wall_s: float) -> int:
        """Store spans; returns how many are new. A span that came twice is kept once. `keep_caps` belongs after it."""
        connection = self._open()
        self._require_room(connection)
        try:
            return _insert(connection, spans, wall_s)
        except sqlite3.DatabaseError as problem:
            if schema.is_damage(problem):
                self._begin_anew()
            elif problem.sqlite_errorcode == sqlite3.SQLITE_FULL:
                self._evict_one_step(connection)
            else:
                raise
        return _insert(self._open(), spans, wall_s)

    def keep_caps(self, *, wall_s: float) -> None:
        """Evict what is too old or too much, and fold the log back into the database."""
        connection = self._open()
        newest_gone = 0
        while (expired := capping.expired_before(connection, wall_s - self._caps.max_age_s)) > 0:
            newest_gone = self._evict(connection, expired)
        if capping.used_bytes(connection) > self._caps.high_bytes:
            while capping.used_bytes(connection) > self._caps.low_bytes and (oldest := capping.oldest_step(connection)):
                newest_gone = self._evict(connection, oldest)
        if newest_gone:
            with _transaction(connection):
                capping.sweep_names(connection, newest_gone)
        capping.shrink(connection, self._caps)
        self._fold_log(connection)

    def file_bytes(self) -> int:
        """What the file and its side files take on the disk."""
        return schema.file_bytes(self._path)

    def close(self) -> None:
        """Fold the log and close; the next write opens again."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def replace_damaged(self) -> None:
        """Move the file aside if it is damaged; a reader that met damage asks for this."""
        self.close()
        self._open()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = schema.open_for_writing(self._path)
            except schema.Unusable:
                schema.move_aside(self._path)
                self.moved_aside_count += 1
                self._connection = schema.open_for_writing(self._path)
            capping.limit_pages(self._connection, self._caps)
        return self._connection

    def _begin_anew(self) -> None:
        self.close()
        schema.move_aside(self._path)
        self.moved_aside_count += 1

    def _evict_one_step(self, connection: sqlite3.Connection) -> None:
        oldest = capping.oldest_step(connection)
        if not oldest:
            raise StoreFull("the disk or the cap leaves no room")
        self._evict(connection, oldest)

    def _evict(self, connection: sqlite3.Connection, last: int) -> int:
        while capping.delete_spans_up_to(connection, last):
            self._fold_log(connection)
        self.evicted_trace_count += capping.delete_traces_up_to(connection, last)
        return last

    def _require_room(self, connection: sqlite3.Connection) -> None:
        self._fold_log(connection)
        if schema.log_bytes(self._path) > self._caps.log_bytes:
            raise StoreFull("a reader keeps the log from being folded")

    def _fold_log(self, connection: sqlite3.Connection) -> None:
        if schema.log_bytes(self._path) > self._caps.log_bytes // 2:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _insert(connection: sqlite3.Connection, spans: Sequence[IncomingSpan], wall_s: float) -> int:
    with _transaction(connection):
        traces = _trace_keys(connection, spans, wall_s)
        operations = _operation_keys(connection, spans, traces)
        origins = _origin_keys(connection, spans, traces)
        rows = [
            (traces[s.trace_id], s.span_id, s.parent_id, operations[s.origin.service, s.operation, s.kind],
             origins[s.origin], s.start_us, s.duration_us, s.is_error, s.body)
            for s in spans
        ]  # fmt: skip
        stored = connection.executemany(_INSERT_SPAN, rows).rowcount
        _count(connection, spans, traces, all_new=stored == len(rows))
        roots = [(row[3], row[0]) for row in rows if row[2] == 0]
        connection.executemany("UPDATE traces SET root_operation = ? WHERE id = ?", roots)
    return stored


def _trace_keys(connection: sqlite3.Connection, spans: Sequence[IncomingSpan], wall_s: float) -> dict[bytes, int]:
    bounds: dict[bytes, tuple[int, int]] = {}
    for span in spans:
        end_us = span.start_us + span.duration_us
        known = bounds.get(span.trace_id)
        bounds[span.trace_id] = (
            (span.start_us, end_us) if known is None else (min(known[0], span.start_us), max(known[1], end_us))
        )
    return {
        trace_id: _key(connection, _UPSERT_TRACE, (trace_id, wall_s, start_us, end_us))
        for trace_id, (start_us, end_us) in bounds.items()
    }


def _operation_keys(
    connection: sqlite3.Connection, spans: Sequence[IncomingSpan], traces: dict[bytes, int]
) -> dict[tuple[str, str, str], int]:
    last: dict[tuple[str, str, str], int] = {}
    for span in spans:
        name = (span.origin.service, span.operation, span.kind)
        last[name] = max(last.get(name, 0), traces[span.trace_id])
    return {name: _key(connection, _UPSERT_OPERATION, (*name, trace)) for name, trace in last.items()}


def _origin_keys(
    connection: sqlite3.Connection, spans: Sequence[IncomingSpan], traces: dict[bytes, int]
) -> dict[Origin, int]:
    last: dict[Origin, int] = {}
    for span in spans:
        last[span.origin] = max(last.get(span.origin, 0), traces[span.trace_id])
    return {
        origin: _key(
            connection, _UPSERT_ORIGIN, (_digest(origin), origin.service, origin.resource, origin.scope, trace)
        )
        for origin, trace in last.items()
    }


def _count(
    connection: sqlite3.Connection, spans: Sequence[IncomingSpan], traces: dict[bytes, int], *, all_new: bool
) -> None:
    if not all_new:
        connection.executemany(_RECOUNT, [(trace,) for trace in traces.values()])
        return
    counts = {trace: [0, 0] for trace in traces.values()}
    for span in spans:
        count = counts[traces[span.trace_id]]
        count[0] += 1
        count[1] += span.is_error
    connection.executemany(_ADD_COUNTS, [(*count, trace) for trace, count in counts.items()])


def _key(connection: sqlite3.Connection, upsert: str, values: tuple[object, ...]) -> int:
    return int(connection.execute(upsert, values).fetchone()[0])


def _digest(origin: Origin) -> bytes:
    return blake2b(b"%d:%b%b" % (len(origin.resource), origin.resource, origin.scope), digest_size=16).digest()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
