"""A prompt as the compressor sees it: texts with their roles, and the frozen head that runs over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TOOL_SCHEMA = "tool_schema"
"""Role of a tool's schema. Those that readers may call come before all messages, as chat templates write them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The text of one message, or of one tool's schema; one that is not sent becomes empty."""

    role: str
    text: str
    calls: tuple[str, ...] = ()
    """Names of the tools that the message calls, or is the result of."""


def frozen_chars(texts: Sequence[str], frozen_bytes: int) -> list[int]:
    """How many characters at the head of each text are frozen; a character cut by the limit counts as frozen."""
    remaining = frozen_bytes
    counts = []
    for text in texts:
        encoded = text.encode("utf-8")
        counts.append(len(text) if len(encoded) <= remaining else _chars_in(encoded, remaining))
        remaining = max(0, remaining - len(encoded))
    return counts


def has_same_head(one: Sequence[str], other: Sequence[str], byte_count: int) -> bool:
    """Whether the first bytes over all texts are equal, and lie in the same messages."""
    remaining = byte_count
    for text, other_text in zip(one, other, strict=True):
        head = text.encode("utf-8")
        if remaining > 0 and head[:remaining] != other_text.encode("utf-8")[:remaining]:
            return False
        remaining -= len(head)
    return True


def _chars_in(encoded: bytes, byte_count: int) -> int:
    if byte_count <= 0:
        return 0
    while byte_count < len(encoded) and encoded[byte_count] & 0xC0 == 0x80:
        byte_count += 1
    return len(encoded[:byte_count].decode("utf-8"))
