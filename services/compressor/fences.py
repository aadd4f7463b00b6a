"""Where fenced code lies in a text, and which fences hold data that may be written in another format.

A fence that names no language holds data where it starts like JSON or XML. An unclosed fence reaches to the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from services.compressor.spans import Range

_FENCE_LINE = re.compile(r"^[ \t]*(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_MOST_FENCES = 5_000
"""In one text; the rest of a text with more counts as code."""
_DATA_LANGUAGES = frozenset({"json", "jsonl", "ndjson", "geojson", "xml", "svg", "rss"})
_DATA_STARTS = ("{", "[", "<")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """One fenced block."""

    whole: Range
    """With its fence lines."""
    body: Range
    holds_data: bool


def fences(text: str) -> Iterator[Fence]:
    """The fenced blocks, in order."""
    if "```" not in text and "~~~" not in text:
        return
    opened: re.Match[str] | None = None
    for index, line in enumerate(_FENCE_LINE.finditer(text)):
        if index >= 2 * _MOST_FENCES and opened is None:
            yield Fence(whole=(line.start(), len(text)), body=(line.end(), len(text)), holds_data=False)
            return
        if opened is None:
            opened = line
        elif _closes(line, opened):
            yield _fence(text, opened, line.start(), line.end())
            opened = None
    if opened is not None:
        yield _fence(text, opened, len(text), len(text))


def _closes(line: re.Match[str], opened: re.Match[str]) -> bool:
    return line[1][0] == opened[1][0] and len(line[1]) >= len(opened[1]) and not line[2].strip()


def _fence(text: str, opened: re.Match[str], body_end: int, end: int) -> Fence:
    body_start = min(opened.end() + 1, body_end)
    language = opened[2].strip().lower()
    starts_like_data = text[body_start:body_end].lstrip().startswith(_DATA_STARTS)
    return Fence(
        whole=(opened.start(), end),
        body=(body_start, body_end),
        holds_data=language in _DATA_LANGUAGES or (not language and starts_like_data),
    )
