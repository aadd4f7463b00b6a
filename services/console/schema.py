"""The file: its tables, how it is opened, and how a file that can't be used is moved aside.

Trace ids grow in order of arrival, and the oldest go first, so whatever names its last user by `last_trace` can be
swept by one comparison.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

VERSION = 1
_SIDE_FILES = ("", "-wal", "-shm")

_TABLES = """
CREATE TABLE traces (
    id INTEGER PRIMARY KEY, trace_id BLOB NOT NULL UNIQUE, received_s REAL NOT NULL,
    start_us INTEGER NOT NULL, end_us INTEGER NOT NULL,
    span_count INTEGER NOT NULL, error_count INTEGER NOT NULL, root_operation INTEGER
);
CREATE INDEX traces_by_start ON traces (start_us);
CREATE TABLE operations (
    id INTEGER PRIMARY KEY, service TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, last_trace INTEGER NOT NULL,
    UNIQUE (service, name, kind)
);
CREATE TABLE origins (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, service TEXT NOT NULL,
    resource BLOB NOT NULL, scope BLOB NOT NULL, last_trace INTEGER NOT NULL
);
CREATE TABLE spans (
    trace INTEGER NOT NULL, span_id INTEGER NOT NULL, parent_id INTEGER NOT NULL,
    operation INTEGER NOT NULL, origin INTEGER NOT NULL,
    start_us INTEGER NOT NULL, duration_us INTEGER NOT NULL, is_error INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (trace, span_id)
) WITHOUT ROWID;
"""


class Unusable(Exception):
    """The file is damaged, or another version wrote it."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open or create the file. Raises Unusable, or sqlite3.Error and OSError where the disk refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.2)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the file read-only; where the directory is read-only too, the log beside the file is not seen."""
    try:
        return _connect_read_only(path, "mode=ro")
    except sqlite3.OperationalError:
        return _connect_read_only(path, "immutable=1")


def move_aside(path: Path) -> Path:
    """Rename the file and its side files. Only the latest is kept, so that they can't fill the disk."""
    for old in path.parent.glob(f"{path.name}.unusable-*"):
        old.unlink(missing_ok=True)
    aside = path.with_name(f"{path.name}.unusable-{time.strftime('%Y%m%dT%H%M%S')}")
    for suffix in _SIDE_FILES:
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(aside.with_name(aside.name + suffix))
    return aside


def file_bytes(path: Path) -> int:
    """What the file and its side files take on the disk."""
    return sum(_size(path.with_name(path.name + suffix)) for suffix in _SIDE_FILES)


def log_bytes(path: Path) -> int:
    """What the write-ahead log takes."""
    return _size(path.with_name(path.name + "-wal"))


def is_damage(problem: sqlite3.Error) -> bool:
    """Whether SQLite says that the file itself is at fault, rather than the disk or the moment."""
    primary = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    return primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _prepare(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -8192")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
            return
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as problem:
        if is_damage(problem):
            raise Unusable(str(problem)) from problem
        raise
    if version != VERSION:
        raise Unusable(f"written by version {version} of the schema, not {VERSION}")
    if verdict != "ok":
        raise Unusable(str(verdict))


def _connect_read_only(path: Path, option: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?{option}", uri=True, isolation_level=None, timeout=1.0)
    try:
        connection.execute("SELECT 1 FROM traces LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
