"""The file: its tables, its settings, and how one is told from a file that is not ours.

Small rows hold what eviction looks at, large ones the entries' bytes, so that eviction reads little. Write-ahead
logging makes each commit whole after any kill; a power cut may lose the last ones.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from services.cache.disk.failures import Damaged, translated

PAGE_BYTES = 4096
JOURNAL_BYTES = 8 * 1024 * 1024
"""Most of the journal that stays on the disk between writes."""
APPLICATION_ID = 0x6D636533
VERSION = 1
_TABLES = """
    CREATE TABLE entries(
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        expires_at REAL NOT NULL,
        is_visited INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX entries_by_expiry ON entries(expires_at);
    CREATE TABLE bodies(id INTEGER PRIMARY KEY, data BLOB NOT NULL);
"""


def open_writer(file: Path, *, max_page_count: int) -> sqlite3.Connection:
    """The one connection that writes, to a file with our tables. Raises DiskProblem; Damaged for a file not ours."""
    with translated():
        connection = _connect(file)
        try:
            _prepare(connection, max_page_count)
        except BaseException:
            connection.close()
            raise
        return connection


def open_reader(file: Path) -> sqlite3.Connection:
    """A connection that only reads, beside the writer."""
    with translated():
        connection = _connect(file)
        connection.execute("PRAGMA query_only = ON")
        return connection


def number(connection: sqlite3.Connection, question: str) -> int:
    """The one integer that answers a question."""
    (answer,) = connection.execute(question).fetchone()
    return int(answer)


def used_page_count(connection: sqlite3.Connection) -> int:
    """Pages of the file without the free ones, which the next entries take."""
    return number(connection, "PRAGMA page_count") - number(connection, "PRAGMA freelist_count")


def _connect(file: Path) -> sqlite3.Connection:
    # Used by one thread at a time; the module's own check would tie it to the thread that opened it.
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=0.1)
    # A damaged row may hold text where bytes belong: it must be read, so that the checksum can refuse it.
    connection.text_factory = bytes
    # Reading a mapped file that someone truncates kills the process.
    connection.execute("PRAGMA mmap_size = 0")
    return connection


def _prepare(connection: sqlite3.Connection, max_page_count: int) -> None:
    if number(connection, "PRAGMA page_count") == 0:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(
            f"BEGIN; {_TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
        )
    found = (number(connection, "PRAGMA application_id"), number(connection, "PRAGMA user_version"))
    if found != (APPLICATION_ID, VERSION):
        raise Damaged("the file is of another version, or not a file of entries")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
    connection.execute("PRAGMA secure_delete = FAST")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute(f"PRAGMA max_page_count = {max_page_count}")
