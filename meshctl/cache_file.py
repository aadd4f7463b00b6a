"""The file that `meshctl cache export` writes: entries one after the other, each provably whole and in its place.

Layout: magic (6 bytes), format version (2), then frames of length (4, big-endian), link (16) and payload. A link is a
checksum of the payload, keyed with the link before it, so a changed, moved, missing or foreign frame breaks the chain.
The last frame has length 0 and its payload is the count of entries (8): a file that was cut off has none. Payloads are
`mesh.cache.v1.ExportedEntry`; they hold answers, so the file is for its owner alone. No tenant is in it.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

MAGIC = b"MCACHE"
VERSION = 1
MAX_FRAME_BYTES = 16 * 1024 * 1024
_LENGTH_BYTES, _LINK_BYTES, _COUNT_BYTES = 4, 16, 8
_HEADER = MAGIC + VERSION.to_bytes(2, "big")


class DamagedFile(Exception):
    """The file is not a whole export; the text says how far it is whole."""


class EntryWriter:
    """Writes beside `path` and puts the file in its place when it is whole. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self.size_bytes = 0
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._link = _first_link()
        self._file: BinaryIO

    def __enter__(self) -> "EntryWriter":
        descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._write(_HEADER)
        return self

    def add(self, payload: bytes) -> None:
        """One entry."""
        self._frame(len(payload), payload)
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._frame(0, self.count.to_bytes(_COUNT_BYTES, "big"))
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)

    def _frame(self, length: int, payload: bytes) -> None:
        self._link = _next_link(self._link, payload)
        self._write(length.to_bytes(_LENGTH_BYTES, "big") + self._link + payload)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.size_bytes += len(data)


def read_entries(path: Path) -> Iterator[bytes]:
    """The payloads, one at a time. Raises DamagedFile at the first one that is not whole, and OSError."""
    with path.open("rb") as file:
        _check_header(file.read(len(_HEADER)))
        link, count = _first_link(), 0
        while True:
            length = int.from_bytes(_exactly(file, _LENGTH_BYTES, count), "big")
            if length > MAX_FRAME_BYTES:
                raise DamagedFile(f"it is damaged after {count} entries")
            expected = _exactly(file, _LINK_BYTES, count)
            payload = _exactly(file, length or _COUNT_BYTES, count)
            link = _next_link(link, payload)
            if link != expected:
                raise DamagedFile(f"it is damaged after {count} entries")
            if length == 0:
                break
            count += 1
            yield payload
        if int.from_bytes(payload, "big") != count or file.read(1):
            raise DamagedFile(f"it does not end after its {count} entries")


def _check_header(found: bytes) -> None:
    if found[: len(MAGIC)] != MAGIC:
        raise DamagedFile("it was not written by `meshctl cache export`")
    if found != _HEADER:
        raise DamagedFile(f"its format is not version {VERSION}; use the meshctl that wrote it")


def _exactly(file: BinaryIO, size: int, count: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise DamagedFile(f"it is cut off after {count} entries")
    return data


def _first_link() -> bytes:
    return hashlib.blake2b(_HEADER, digest_size=_LINK_BYTES).digest()


def _next_link(link: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(payload, key=link, digest_size=_LINK_BYTES).digest()
