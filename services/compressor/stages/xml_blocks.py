"""Where XML lies in a text, as its tokens. Nothing is expanded or fetched: entities stay as they are written, and a
document type with declarations of its own, where entity bombs live, is not read at all.

A block starts on a line of its own and must be well-formed in its nesting. The first one that is not ends the search,
since where it would end is anybody's guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from services.compressor.shield import Shield

_DEEPEST = 256
_MOST_BLOCKS = 10_000
"""In one text; what comes after them is left alone."""
NAME = r"[A-Za-z_][\w.\-]*+(?::[\w.\-]++)?+"
_VALUE = r"(?:\"[^\"<]*+\"|'[^'<]*+')"
_ATTRIBUTES = rf"(?:\s++{NAME}\s*+=\s*+{_VALUE})*+"
ATTRIBUTE = re.compile(rf"\s({NAME})\s*+=\s*+({_VALUE})")
"""The name and the quoted value of each attribute of a tag."""
_TOKEN = re.compile(
    r"(?P<other><!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<!DOCTYPE[^\[<>]*+>)"
    rf"|</(?P<closed>{NAME})\s*+>"
    rf"|<(?P<opened>{NAME}){_ATTRIBUTES}\s*+(?P<empty>/?)>"
    r"|(?P<text>[^<]++)",
    re.DOTALL,
)
_CANDIDATE = re.compile(r"^[ \t]*+(?=<[?!A-Za-z_])", re.MULTILINE)


class Kind(Enum):
    """What a token is."""

    OPEN = "open"
    CLOSE = "close"
    EMPTY = "empty"
    TEXT = "text"
    OTHER = "other"
    """A comment, CDATA section, processing instruction or document type."""


class Token(NamedTuple):
    """A piece of the text; all pieces together are the block."""

    kind: Kind
    text: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class XmlBlock:
    """One well-formed element with what stands before it."""

    start: int
    end: int
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class XmlBlocks:
    """What was found."""

    valid: tuple[XmlBlock, ...]
    broken_at: int | None
    """Where the search ended for a block that is not well-formed, or for too many blocks."""


def find_xml(text: str, shield: Shield) -> XmlBlocks:
    """All XML in the text that the shield admits."""
    valid: list[XmlBlock] = []
    if "<" not in text:
        return XmlBlocks(valid=(), broken_at=None)
    position = 0
    while found := _CANDIDATE.search(text, position):
        start = found.end()
        covering = shield.hard.covering(start)
        if covering is not None:
            position = covering[1]
            continue
        block = _read(text, start) if len(valid) < _MOST_BLOCKS else None
        if block is None:
            return XmlBlocks(valid=tuple(valid), broken_at=start)
        if shield.admits(text, block.start, block.end):
            valid.append(block)
        position = block.end
    return XmlBlocks(valid=tuple(valid), broken_at=None)


def _read(text: str, start: int) -> XmlBlock | None:
    """The block that starts here, up to the end of its root; None where it is not well-formed or too deep."""
    tokens: list[Token] = []
    names: list[str] = []
    position = start
    while found := _TOKEN.match(text, position):
        token = _token(found)
        tokens.append(token)
        position = found.end()
        if not _nests(token, names):
            return None
        if not names and token.kind in (Kind.CLOSE, Kind.EMPTY):
            return XmlBlock(start=start, end=position, tokens=tuple(tokens))
    return None


def _nests(token: Token, names: list[str]) -> bool:
    """Follow one token on the stack of open elements; False where it does not fit."""
    if token.kind is Kind.OPEN:
        names.append(token.name)
        return len(names) <= _DEEPEST
    if token.kind is Kind.CLOSE:
        return bool(names) and names.pop() == token.name
    return bool(names) or token.kind is not Kind.TEXT or token.text.isspace()


def _token(found: re.Match[str]) -> Token:
    if found["text"] is not None:
        return Token(Kind.TEXT, found[0])
    if found["opened"] is not None:
        return Token(Kind.EMPTY if found["empty"] else Kind.OPEN, found[0], found["opened"])
    if found["closed"] is not None:
        return Token(Kind.CLOSE, found[0], found["closed"])
    return Token(Kind.OTHER, found[0])
