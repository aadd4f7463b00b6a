"""What can go wrong with the file, told apart by what follows from it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

_BROKEN_FILE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class DiskProblem(Exception):
    """The folder or the disk does not serve now; the text says why. It may later."""


class Damaged(DiskProblem):
    """The file is no longer, or never was, what it should be: it needs to be replaced."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what SQLite and the system raise into the two above."""
    try:
        yield
    except sqlite3.Error as error:
        # Only errors of SQLite itself have a code; the low byte is the kind.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise (Damaged if code in _BROKEN_FILE else DiskProblem)(str(error)) from error
    except OSError as error:
        raise DiskProblem(error.strerror or str(error)) from error
