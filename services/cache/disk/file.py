"""An open file of entries: the lock on its folder, a connection that writes and one that reads.

Opening moves a file that is damaged, of another version or not ours aside and starts a new one. What was moved aside
counts against the budget until someone removes it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from meshkit.telemetry import names
from meshkit.telemetry.logs import get_logger
from services.cache.disk import folder as folders
from services.cache.disk import schema
from services.cache.disk.failures import Damaged
from services.cache.disk.writing import Room, Writing

_FEWEST_PAGES = 256
"""Where a file that was moved aside leaves no more."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the file may take of the disk."""

    budget_bytes: int
    min_free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFile:
    """The open file. `reader` and `writer` belong to one thread each."""

    lock: int
    reader: sqlite3.Connection
    writer: sqlite3.Connection
    writing: Writing

    def close(self) -> None:
        """Let go of everything; on the thread that writes, once the other is done."""
        for connection in (self.reader, self.writer):
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        os.close(self.lock)


def open_file(folder: Path, limits: Limits, *, is_damaged: bool = False) -> EntryFile:
    """Claim the folder and open its file; `is_damaged` says that it is known to be. Raises DiskProblem."""
    lock = folders.claim(folder)
    try:
        if is_damaged:
            _replace(folder, "damaged")
        try:
            return _opened(folder, limits, lock)
        except Damaged as damage:
            _replace(folder, str(damage))
            return _opened(folder, limits, lock)
    except BaseException:
        os.close(lock)
        raise


def _opened(folder: Path, limits: Limits, lock: int) -> EntryFile:
    file = folder / folders.FILE_NAME
    folders.make_private(file)
    room = Room(page_count=_page_count(folder, limits), min_free_bytes=limits.min_free_bytes)
    writer = schema.open_writer(file, max_page_count=room.page_count)
    try:
        writing = Writing(writer, folder, room)
        return EntryFile(lock=lock, reader=schema.open_reader(file), writer=writer, writing=writing)
    except BaseException:
        writer.close()
        raise


def _page_count(folder: Path, limits: Limits) -> int:
    left_bytes = limits.budget_bytes - schema.JOURNAL_BYTES - folders.aside_bytes(folder)
    return max(left_bytes // schema.PAGE_BYTES, _FEWEST_PAGES)


def _replace(folder: Path, reason: str) -> None:
    if (folder / folders.FILE_NAME).exists():
        aside = folders.move_aside(folder)
        _log.error(names.LOG_CACHE_FILE_ASIDE, reason=reason, moved_to=str(aside))
