"""Where a prompt can be cut and its beginning be met again: behind each tool, each turn, each part of a long text.

A mark is a link of a chain of digests, so it names everything before it: equal marks mean prompts that begin alike, for
the same model, revision, template and compression. Nothing is tokenised here: which tokens lie before a mark is learnt
from the engine that read the prompt. Lengths count characters, or ids of a prompt that came as ids.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from meshkit.errors import InvalidRequest

MOST_MARKS = 256
PART_CHARACTERS = 1024
PART_IDS = 256
DIGEST_BYTES = 8
_ROOT_FIELDS = ("model", "revision", "template_digest", "compressor_version")
_PERSON = b"mesh.cache.mark1"
_TOTAL = struct.Struct(">I")
_MARK = struct.Struct(f">{DIGEST_BYTES}sI")

_encoder = msgspec.msgpack.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A breakpoint of a prompt."""

    digest: bytes
    length: int
    """Of the prompt up to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakpoints:
    """The first breakpoints of a prompt, in order; the last of them is the prompt's end unless there are too many."""

    marks: tuple[Mark, ...]
    length: int
    """Of the whole prompt."""

    def __bytes__(self) -> bytes:
        return _TOTAL.pack(self.length) + b"".join(_MARK.pack(mark.digest, mark.length) for mark in self.marks)

    @classmethod
    def parse(cls, packed: bytes) -> Breakpoints:
        """What `bytes` gave. Raises InvalidRequest."""
        body = packed[_TOTAL.size :]
        if len(packed) < _TOTAL.size or len(body) % _MARK.size or not 0 < len(body) // _MARK.size <= MOST_MARKS:
            raise InvalidRequest("are not marks", field="marks", limit="as Lookup gave them")
        marks = tuple(Mark(digest=digest, length=length) for digest, length in _MARK.iter_unpack(body))
        (length,) = _TOTAL.unpack_from(packed)
        if not 0 < marks[-1].length <= length:
            raise InvalidRequest("are not marks", field="marks", limit="as Lookup gave them")
        return cls(marks=marks, length=length)


def breakpoints(request: Mapping[str, Any]) -> Breakpoints:
    """Of a request as plain data, see `request_key`."""
    prompt = request.get("prompt", {})
    digest = _digest(b"", [[request.get(name, "") for name in _ROOT_FIELDS], prompt.get("raw", False)])
    marks: list[Mark] = []
    length = 0
    for content, part_length in _parts(prompt):
        length += part_length
        if len(marks) < MOST_MARKS:
            digest = _digest(digest, content)
            marks.append(Mark(digest=digest, length=length))
    return Breakpoints(marks=tuple(marks), length=length)


def _parts(prompt: Mapping[str, Any]) -> Iterator[tuple[Any, int]]:
    """What lies between breakpoints, in the order in which a model reads it, each with its length."""
    for tool in prompt.get("tools", ()):
        yield ["tool", tool], len(_encoder.encode(tool))
    for turn in prompt.get("messages", {}).get("messages", ()):
        head = {name: value for name, value in turn.items() if name != "content"}
        first, *rest = _cut(turn.get("content", ""), PART_CHARACTERS) or [""]
        yield ["turn", head, first], max(1, len(first))
        yield from ((["more", part], len(part)) for part in rest)
    for part in _cut(prompt.get("text", ""), PART_CHARACTERS):
        yield ["text", part], len(part)
    for part in _cut(prompt.get("token_ids", {}).get("ids", ()), PART_IDS):
        yield ["ids", list(part)], len(part)


def _cut(content: Any, size: int) -> list[Any]:
    return [content[begin : begin + size] for begin in range(0, len(content), size)]


def _digest(parent: bytes, content: Any) -> bytes:
    return hashlib.blake2b(parent + _encoder.encode(content), digest_size=DIGEST_BYTES, person=_PERSON).digest()
