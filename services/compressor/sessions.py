"""What each conversation's messages became, so that they become the same again when the conversation has grown.

Held in this process only. An instance that does not know a conversation says so, and never guesses.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.compressor.bounded import BoundedStore
from services.compressor.order import Settled
from services.compressor.prompt_text import Part, frozen_chars

_MESSAGE_BYTES = 400
"""Of bookkeeping for one message, beside its texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A conversation."""

    tenant: str
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    digest: bytes
    """Of the original, with its role."""
    became: Settled
    """Without the original."""


class Sessions:
    """The last prompt of each conversation as it went out."""

    def __init__(self, store: BoundedStore[Key, tuple[_Message, ...]]) -> None:
        self._store = store

    def settled(self, key: Key, parts: Sequence[Part]) -> tuple[Settled, ...] | None:
        """What the leading messages became last time, as far as they are the same; None: unknown conversation."""
        known = self._store.peek(key)
        if known is None:
            return None
        found: list[Settled] = []
        for part, message in zip(parts, known, strict=False):
            if _digest(part) != message.digest:
                break
            found.append(replace(message.became, original=part.text))
        return tuple(found)

    def last_sent(self, key: Key) -> tuple[str, ...]:
        """The texts that went out last time; none of an unknown conversation."""
        return tuple(message.became.sent for message in self._store.peek(key) or ())

    def remember(self, key: Key, parts: Sequence[Part], became: Sequence[Settled]) -> None:
        """From now on this is what went out last."""
        messages = tuple(
            _Message(digest=_digest(part), became=replace(one, original=""))
            for part, one in zip(parts, became, strict=True)
        )
        self._store.put(key, messages, sum(_size(message) for message in messages))


def still_valid(settled: Sequence[Settled], *, protect: Sequence[str], frozen_bytes: int) -> tuple[Settled, ...]:
    """The leading messages that also keep what the caller protects or freezes now."""
    frozen = frozen_chars([one.original for one in settled], frozen_bytes)
    for index, (one, count) in enumerate(zip(settled, frozen, strict=True)):
        is_frozen_kept = one.sent[:count] == one.original[:count] and (
            count < len(one.original) or one.sent == one.original
        )
        if not is_frozen_kept or any(one.sent.count(marked) < one.original.count(marked) for marked in protect):
            return tuple(settled[:index])
    return tuple(settled)


def _digest(part: Part) -> bytes:
    role, text = part.role.encode("utf-8", "surrogatepass"), part.text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(len(role).to_bytes(4, "big") + role + text, digest_size=16).digest()


def _size(message: _Message) -> int:
    became = message.became
    return _MESSAGE_BYTES + sys.getsizeof(became.sent) + sum(sys.getsizeof(run) for run in became.left_out)
