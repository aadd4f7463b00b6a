"""How much the console keeps: the oldest traces go first, and the file with its log stays below its cap.

The cap is shared out: the database may grow to `database_bytes`, which SQLite itself enforces, and the write-ahead log
to `log_bytes`. Eviction starts at `high_bytes` and stops at `low_bytes`, so that it runs seldom and never in vain.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

SMALLEST_CAP_BYTES = 4 * 1024 * 1024
_LARGEST_LOG_BYTES = 32 * 1024 * 1024
_TRACES_A_STEP = 256
_SPANS_A_STEP = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Limits by size and by age."""

    max_bytes: int = 256 * 1024 * 1024
    max_age_s: float = 7 * 24 * 3600.0

    @property
    def log_bytes(self) -> int:
        return min(_LARGEST_LOG_BYTES, self.max_bytes // 3)

    @property
    def database_bytes(self) -> int:
        return self.max_bytes - self.log_bytes - 64 * 1024

    @property
    def high_bytes(self) -> int:
        return self.database_bytes * 19 // 20

    @property
    def low_bytes(self) -> int:
        return self.database_bytes * 9 // 10


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the database that hold something."""
    pages, free, size = (_pragma(connection, name) for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size


def limit_pages(connection: sqlite3.Connection, caps: Caps) -> None:
    """Have SQLite refuse to grow the database beyond its share."""
    connection.execute(f"PRAGMA max_page_count = {caps.database_bytes // _pragma(connection, 'page_size')}")


def shrink(connection: sqlite3.Connection, caps: Caps) -> None:
    """Give free pages back to the disk where the database is larger than its share, as after the cap was lowered."""
    size = _pragma(connection, "page_size")
    excess = _pragma(connection, "page_count") - caps.database_bytes // size
    if excess > 0:
        # `execute` would step once, and so free one page: the pragma returns no rows for Python to ask for.
        connection.executescript(f"PRAGMA incremental_vacuum({excess})")
        limit_pages(connection, caps)


def expired_before(connection: sqlite3.Connection, cutoff_s: float) -> int:
    """The newest of the oldest traces that arrived before the cut-off; 0 if none did. Looks at one step's worth."""
    rows = connection.execute("SELECT id, received_s FROM traces ORDER BY id LIMIT ?", (_TRACES_A_STEP,))
    last = 0
    for trace, received_s in rows.fetchall():
        if received_s >= cutoff_s:
            break
        last = trace
    return last


def oldest_step(connection: sqlite3.Connection, *, span_count: int = _SPANS_A_STEP) -> int:
    """The last of the oldest traces that together hold about `span_count` spans; 0 if there is none."""
    rows = connection.execute("SELECT id, span_count FROM traces ORDER BY id LIMIT ?", (_TRACES_A_STEP,))
    last, spans = 0, 0
    for trace, count in rows.fetchall():
        last, spans = trace, spans + count
        if spans >= span_count:
            break
    return last


def delete_spans_up_to(connection: sqlite3.Connection, trace: int) -> bool:
    """Delete one step's spans of the traces up to this one; False when none is left. Small steps keep the log small."""
    deleted = connection.execute(
        "DELETE FROM spans WHERE (trace, span_id) IN (SELECT trace, span_id FROM spans WHERE trace <= ? LIMIT ?)",
        (trace, _SPANS_A_STEP),
    )
    return deleted.rowcount > 0


def delete_traces_up_to(connection: sqlite3.Connection, trace: int) -> int:
    """Forget the traces themselves; returns how many. Their spans must be gone."""
    return connection.execute("DELETE FROM traces WHERE id <= ?", (trace,)).rowcount


def sweep_names(connection: sqlite3.Connection, trace: int) -> None:
    """Delete operations and origins that no remaining trace uses."""
    connection.execute("DELETE FROM operations WHERE last_trace <= ?", (trace,))
    connection.execute("DELETE FROM origins WHERE last_trace <= ?", (trace,))


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
