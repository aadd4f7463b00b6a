"""What is asked of the file: one entry, or the next entries under a prefix. Runs on the thread that reads."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from services.cache.disk.failures import translated
from services.cache.disk.schema import PAGE_BYTES, used_page_count
from services.cache.entry import Entry, Unreadable, decode

_LONGER_THAN_ANY_KEY = b"\xff" * 65
_FIND = "SELECT entries.id, data FROM entries JOIN bodies ON bodies.id = entries.id WHERE key = ?"
_UNDER_PREFIX = """
    SELECT entries.id, key, data FROM entries JOIN bodies ON bodies.id = entries.id
    WHERE key >= ? AND key < ? ORDER BY key LIMIT ?
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entry of the file, as far as it can be read."""

    id: int
    key: bytes
    entry: Entry | None
    """None: unreadable."""


def find(connection: sqlite3.Connection, key: bytes) -> Row | None:
    """The key's row, if there is one. Raises DiskProblem."""
    with translated():
        found = connection.execute(_FIND, (key,)).fetchone()
    return None if found is None else Row(id=found[0], key=key, entry=_readable(key, found[1]))


def next_rows(connection: sqlite3.Connection, prefix: bytes, after: bytes | None, limit: int) -> list[Row]:
    """The first rows under the prefix, behind the key `after`, in the order of keys. Raises DiskProblem."""
    first = prefix if after is None else after + b"\0"
    with translated():
        found = connection.execute(_UNDER_PREFIX, (first, prefix + _LONGER_THAN_ANY_KEY, limit)).fetchall()
    return [Row(id=id, key=key, entry=_readable(key, data)) for id, key, data in found]


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that are in use. Raises DiskProblem."""
    with translated():
        return used_page_count(connection) * PAGE_BYTES


def _readable(key: bytes, data: object) -> Entry | None:
    try:
        return decode(key, data) if isinstance(data, bytes) else None
    except Unreadable:
        return None
