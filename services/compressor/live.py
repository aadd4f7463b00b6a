"""What of a prompt is the live instruction, and what selection must leave whole because of it.

The instruction is looked for only in the last message of the user: a document in a message of its own, or in a tool's
result, can say what it likes and is never read as one. In a message that brings its documents along, the instruction is
its first and its last paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.compressor.prompt_text import TOOL_SCHEMA, Part
from services.compressor.spans import Range

_SHORT = 600
"""Characters; a message up to this length is all instruction."""
_LONGEST_HEAD = 600
_LONGEST_TAIL = 1_000
_GAP = re.compile(r"\n[ \t\r]*\n")
_ASKS = ("?", "？", "؟")
_SELECTABLE = frozenset({"user", "tool", "assistant", TOOL_SCHEMA})


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The instruction in words, and the pinned stretches of each part."""

    query: str
    pinned: tuple[tuple[Range, ...], ...]


def live(parts: Sequence[Part], *, keeps_answers: bool) -> Live:
    """The live instruction of these parts; the query is empty where no user speaks."""
    last_user = max((index for index, part in enumerate(parts) if part.role == "user"), default=None)
    found = _instruction(parts[last_user].text) if last_user is not None else ()
    pinned: list[tuple[Range, ...]] = []
    for index, part in enumerate(parts):
        is_live_turn = last_user is not None and index > last_user
        is_answer = part.role == "assistant" and (keeps_answers or is_live_turn)
        if index == last_user:
            pinned.append(found)
        else:
            is_whole = part.role not in _SELECTABLE or is_answer or (keeps_answers and part.role == TOOL_SCHEMA)
            pinned.append(((0, len(part.text)),) if is_whole else ())
    return Live(query=_query(parts[last_user].text, found) if last_user is not None else "", pinned=tuple(pinned))


def _instruction(text: str) -> tuple[Range, ...]:
    if len(text) <= _SHORT:
        return ((0, len(text)),)
    end = len(text.rstrip())
    tail = (_tail_start(text, end), len(text))
    head_end = _first_gap(text)
    head = ((0, head_end),) if head_end is not None and head_end <= tail[0] else ()
    return (*head, tail)


def _first_gap(text: str) -> int | None:
    start = len(text) - len(text.lstrip())
    gap = _GAP.search(text, start, start + _LONGEST_HEAD + 2)
    return gap.start() if gap else None


def _tail_start(text: str, end: int) -> int:
    """Where the last paragraph starts; of one that is too long its last line; of one line that is, its last piece."""
    earliest = max(0, end - _LONGEST_TAIL)
    gaps = [gap.end() for gap in _GAP.finditer(text, earliest, end)]
    if gaps:
        return gaps[-1]
    line = text.rfind("\n", earliest, end)
    if line >= 0:
        return line + 1
    stop = max(text.rfind(mark, earliest, max(earliest, end - 1)) for mark in (". ", "? ", "! ", "。"))
    return stop + 1 if stop >= 0 else earliest


def _query(text: str, ranges: Sequence[Range]) -> str:
    """Of the pinned paragraphs those that ask, else all of them."""
    pieces = [text[start:end].strip() for start, end in ranges]
    asking = [piece for piece in pieces if any(mark in piece for mark in _ASKS)]
    return "\n".join(asking or pieces)
