"""Who may use a folder of entries: one process at a time, and only a folder that no one else may write to.

A second process is refused while the first lives, however that ends, since the system drops its lock. What a stranger
could have written must not be served, so a folder that is open to others is refused too.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from services.cache.disk.failures import DiskProblem, translated

FILE_NAME = "entries.db"
_ASIDE_NAME = "entries.aside.db"
_LOCK_NAME = "lock"
_JOURNAL = "-wal"
_JOURNAL_INDEX = "-shm"
_OTHERS_MAY_WRITE = 0o022


def claim(folder: Path) -> int:
    """Make the folder where it is absent and lock it; the file descriptor holds the lock. Raises DiskProblem."""
    with translated():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & _OTHERS_MAY_WRITE:
            raise DiskProblem(f"others may write to {folder}: chmod 700 it")
        lock = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise DiskProblem(f"another process uses {folder}") from error
        return lock


def make_private(file: Path) -> None:
    """Make the file where it is absent, for its owner alone; SQLite gives its journal the same mode."""
    with translated():
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))


def move_aside(folder: Path) -> Path:
    """Put the file out of the way, whole, with its journal, in place of one that was moved before."""
    file, aside = folder / FILE_NAME, folder / _ASIDE_NAME
    with translated():
        Path(f"{file}{_JOURNAL_INDEX}").unlink(missing_ok=True)
        Path(f"{aside}{_JOURNAL}").unlink(missing_ok=True)
        file.replace(aside)
        journal = Path(f"{file}{_JOURNAL}")
        if journal.exists():
            journal.replace(f"{aside}{_JOURNAL}")
    return aside


def aside_bytes(folder: Path) -> int:
    """What a file moved aside occupies."""
    return sum(path.stat().st_size for path in folder.glob(f"{_ASIDE_NAME}*"))
