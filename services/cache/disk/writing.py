"""What changes the file, and how it stays within its budget. Runs on the one thread that writes.

Eviction is SIEVE over the order of ids: a hand goes from the oldest entry to the newest; what was asked for since it
last came by stays where it is and loses its mark, what was not goes. Look-ups only note the mark in memory; it is
written with the next change.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.cache.disk.failures import Damaged, DiskProblem, translated
from services.cache.disk.schema import PAGE_BYTES, number, used_page_count

_ROWS_A_STEP = 16
_EXPIRED_A_STEP = 256
_PAGES_A_STEP = 256
_LONGEST_SHRINKING = 64
_KEPT_FREE_PAGES = 256
"""Free pages that stay in the file, for the next entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How large the file may be."""

    page_count: int
    min_free_bytes: int
    """What must stay free on the disk."""


class Writing:
    """The writer of an open file. Every method raises DiskProblem and leaves the file whole."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, room: Room) -> None:
        self.eviction_count = 0
        self._connection = connection
        self._folder = folder
        self._room = room
        self._hand = 0
        with translated():
            self.entry_count = number(connection, "SELECT count(*) FROM entries")

    def put(self, key: bytes, data: bytes, expires_at: float) -> None:
        """Keep the bytes under the key, in place of what was there; where the disk refuses, make the file smaller."""
        self._make_room(len(data) // PAGE_BYTES + 3)
        try:
            self._put(key, data, expires_at)
        except Damaged:
            raise
        except DiskProblem:
            with contextlib.suppress(DiskProblem):
                self._shrink()
            raise

    def mark(self, ids: Sequence[int]) -> None:
        """Note that these were asked for."""
        if not ids:
            return
        with self._transaction():
            mark = "UPDATE entries SET is_visited = 1 WHERE id = ? AND NOT is_visited"
            self._connection.executemany(mark, [(id,) for id in ids])

    def forget(self, key: bytes) -> None:
        """Forget the key, if it is there."""
        with translated():
            found = self._connection.execute("SELECT id FROM entries WHERE key = ?", (key,)).fetchall()
        self.forget_ids([id for (id,) in found])

    def forget_ids(self, ids: Sequence[int]) -> None:
        """Forget these, where they are there."""
        gone_count = 0
        with self._transaction():
            for id in ids:
                self._connection.execute("DELETE FROM bodies WHERE id = ?", (id,))
                gone_count += self._connection.execute("DELETE FROM entries WHERE id = ?", (id,)).rowcount
        self.entry_count -= gone_count

    def tidy(self, wall: float) -> bool:
        """Remove some expired entries or give some space back to the disk; False once there is nothing left to do."""
        with translated():
            expired = "SELECT id FROM entries WHERE expires_at <= ? LIMIT ?"
            found = self._connection.execute(expired, (wall, _EXPIRED_A_STEP)).fetchall()
        if found:
            self.forget_ids([id for (id,) in found])
            return True
        return self._give_back()

    def _put(self, key: bytes, data: bytes, expires_at: float) -> None:
        with self._transaction():
            found = self._connection.execute("SELECT id FROM entries WHERE key = ?", (key,)).fetchone()
            if found is not None:
                self._connection.execute("UPDATE entries SET expires_at = ? WHERE id = ?", (expires_at, found[0]))
                self._connection.execute("UPDATE bodies SET data = ? WHERE id = ?", (data, found[0]))
                return
            made = self._connection.execute("INSERT INTO entries(key, expires_at) VALUES(?, ?)", (key, expires_at))
            self._connection.execute("INSERT INTO bodies(id, data) VALUES(?, ?)", (made.lastrowid, data))
        self.entry_count += 1

    def _make_room(self, page_count: int) -> None:
        with translated():
            while used_page_count(self._connection) + page_count > self._room.page_count and self.entry_count:
                self._evict()
        if shutil.disk_usage(self._folder).free < self._room.min_free_bytes + page_count * PAGE_BYTES:
            self._shrink()
            raise DiskProblem("the disk is full")

    def _shrink(self) -> None:
        """Make the file smaller, where the disk takes nothing more."""
        with translated():
            self._checkpoint()
        self._evict()
        for _ in range(_LONGEST_SHRINKING):
            if not self._give_back():
                return

    def _evict(self) -> None:
        """One step of the hand."""
        with translated():
            some = "SELECT id, is_visited FROM entries WHERE id > ? ORDER BY id LIMIT ?"
            rows = self._connection.execute(some, (self._hand, _ROWS_A_STEP)).fetchall()
        self._hand = rows[-1][0] if rows else 0
        victims = [id for id, is_visited in rows if not is_visited]
        with self._transaction():
            kept = [(id,) for id, is_visited in rows if is_visited]
            self._connection.executemany("UPDATE entries SET is_visited = 0 WHERE id = ?", kept)
        self.forget_ids(victims)
        self.eviction_count += len(victims)

    def _give_back(self) -> bool:
        with translated():
            if number(self._connection, "PRAGMA freelist_count") <= _KEPT_FREE_PAGES:
                return False
            # It frees one page with each row that is fetched.
            self._connection.execute(f"PRAGMA incremental_vacuum({_PAGES_A_STEP})").fetchall()
            if number(self._connection, "PRAGMA freelist_count") <= _KEPT_FREE_PAGES:
                self._checkpoint()
        return True

    def _checkpoint(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk may have ended the transaction already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
