"""How a stored answer looks outside this process, and why bytes that are not exactly that are never served.

Layout: magic (3 bytes), format version (1), checksum (16), body (MessagePack). The checksum is keyed with the storage
key, so that an entry under another's key, a reply meant for another question and a flipped bit are all unreadable.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

import msgspec

MAGIC = b"MCE"
VERSION = 2
_CHECKSUM_BYTES = 16
_HEADER = MAGIC + bytes([VERSION])
_BODY_AT = len(_HEADER) + _CHECKSUM_BYTES


class Finish(Enum):
    """How an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    INCOMPLETE = "incomplete"
    """Cancelled, filtered or broken off: never stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A whole answer, as the events it was. Times are Unix seconds, since entries outlive processes."""

    payload: bytes
    """The answer as the contract serialises it; opaque here."""
    stored_at: float
    fresh_until: float
    """From then to `expires_at` it may be served stale, while one caller generates it anew."""
    expires_at: float
    epoch: int
    """The tenant's invalidation number when the look-up was made that led to this answer."""
    revision: str = ""
    """Revision of the weights that answered."""
    tags: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of what varies; a tier adds its own overhead."""
        return len(self.payload) + len(self.revision) + sum(len(tag) for tag in self.tags)


class Unreadable(Exception):
    """The bytes are corrupt, truncated, of another version or of another key."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def encode(key: bytes, entry: Entry) -> bytes:
    """The bytes to store under `key`."""
    body = _encoder.encode(entry)
    return _HEADER + _checksum(key, body) + body


def decode(key: bytes, data: bytes) -> Entry:
    """The entry that was stored under `key`; raise Unreadable for anything else."""
    if data[: len(_HEADER)] != _HEADER:
        raise Unreadable("another format")
    body = data[_BODY_AT:]
    if data[len(_HEADER) : _BODY_AT] != _checksum(key, body):
        raise Unreadable("checksum differs")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Unreadable("body is not an entry") from error


def _checksum(key: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(body, key=key, person=_HEADER, digest_size=_CHECKSUM_BYTES).digest()
