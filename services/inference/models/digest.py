"""SHA-256 of large files, computed once: the result is kept in the cache, keyed by path, size and time of change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

_CHUNK_BYTES = 4 * 1024 * 1024

OnFraction = Callable[[float], None]


def file_digest(file: Path, cache_dir: Path, on_fraction: OnFraction = lambda fraction: None) -> str:
    """Hex SHA-256 of the file."""
    status = file.stat()
    path = str(file.resolve())
    key = {"path": path, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    side_file = cache_dir / "digests" / f"{hashlib.sha256(path.encode()).hexdigest()[:32]}.json"
    known = _read(side_file)
    if known is not None and {name: known.get(name) for name in key} == key:
        return str(known["sha256"])
    digest = _compute(file, status.st_size, on_fraction)
    _write(side_file, {**key, "sha256": digest})
    return digest


def combined_digest(parts: list[tuple[str, str]]) -> str:
    """One digest for several named files; a single file keeps its own."""
    if len(parts) == 1:
        return parts[0][1]
    return hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()


def _compute(file: Path, size: int, on_fraction: OnFraction) -> str:
    digest, done = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            on_fraction(done / max(size, 1))
    return digest.hexdigest()


def _read(side_file: Path) -> dict[str, object] | None:
    try:
        known: dict[str, object] = json.loads(side_file.read_text())
    except (OSError, ValueError):
        return None
    return known if "sha256" in known else None


def _write(side_file: Path, content: dict[str, object]) -> None:
    side_file.parent.mkdir(parents=True, exist_ok=True)
    temporary = side_file.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(content))
    temporary.replace(side_file)
