"""Where a text may be cut: headings, turns, list items, records, sentences; code is never cut.

A block is what belongs together under its heading: a document, a section, a paragraph. Segments joined are the text;
blanks belong to the segment before them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice

from services.compressor.selection.sentences import ends_sentence, sentences
from services.compressor.selection.stretches import Shape, stretches

_LONGEST_TURN = 600
"""Characters; a longer turn, list item or table row is cut into sentences."""
_LONGEST_HEADING = 120
_HEADING = re.compile(r"[ \t]*(?:#{1,6}[ \t]+\S|={3,}|-{3,}[^-\s]|\*\*[^*\n]+\*\*:?[ \t]*$|<[^<>\n/]{1,60}>[ \t]*$)")
_LABEL = re.compile(
    r"[ \t]*(?:\[\d{1,4}\]|(?:document|doc|passage|source|section|chapter|article|context|chunk|session|result|page)"
    r"[ \t]*\[?#?\d{1,4}\]?)[ \t]*(?:[(\[][^()\[\]\n]{0,200}[)\]])?[ \t]*[:.\-–]?[ \t]*",
    re.IGNORECASE,
)
_TITLE = re.compile(r"[ \t]*(?:title|subject|heading)[ \t]*:[^\n]{1,200}$", re.IGNORECASE)
_TURN = re.compile(r"[ \t]*(?:\[[^\]\n]{1,40}\][ \t]*)?[^\W\d_][\w .'’&()-]{0,40}[:：][ \t]*\S")
_ITEM = re.compile(r"[ \t]*(?:[-*+•–][ \t]|\d{1,3}[.)][ \t]|\|)")


class Kind(Enum):
    """What a segment is."""

    HEADING = "heading"
    SENTENCE = "sentence"
    LINE = "line"
    """A turn, an item of a list or a row of a table."""
    RECORD = "record"
    """An element of an array or a row under column names; it says nothing about its neighbours."""
    WHOLE = "whole"
    TOOL = "tool"
    """The schema of a tool that may be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of a text."""

    start: int
    end: int
    kind: Kind
    block: int
    """Rises through the text."""
    heading: int | None = None
    """Number of the segment that heads this one."""


class TooMany(Exception):
    """A text has more segments than are wanted."""


def segments(text: str, most: int = 1_000_000) -> list[Segment]:
    """The text's segments in order; none for an empty text. Raises TooMany."""
    found: list[Segment] = []
    heading: int | None = None
    block = 0
    is_gap = True
    outer: int | None = None
    is_inside = False
    for start, end, shape in stretches(text):
        if len(found) > most:
            raise TooMany
        if shape is Shape.HEAD:
            outer, is_inside = (outer if is_inside else heading), True
            block += 1
            found.append(Segment(start=start, end=end, kind=Kind.HEADING, block=block, heading=outer))
            heading = len(found) - 1
            continue
        if shape is Shape.RECORD:
            block += 1
            found.append(Segment(start=start, end=end, kind=Kind.RECORD, block=block, heading=heading))
            continue
        if is_inside:
            heading, is_inside, is_gap = outer, False, True
        if shape is Shape.WHOLE:
            block += 1
            found.append(Segment(start=start, end=end, kind=Kind.WHOLE, block=block, heading=heading))
            is_gap = False
            continue
        if not text[start:end].strip():
            is_gap = True
            if found:
                found[-1] = replace(found[-1], end=end)
            elif end == len(text):
                found.append(Segment(start=0, end=end, kind=Kind.LINE, block=0))
            continue
        label_end = _heading_end(text, start, end)
        if label_end is not None:
            block += 1
            heading = len(found)
            found.append(Segment(start=start, end=label_end, kind=Kind.HEADING, block=block))
        elif is_gap and heading is None:
            block += 1
        body = start if label_end is None else label_end
        if body < end:
            joins = not is_gap and label_end is None
            _add_line(found, text, body, end, block, heading, joins=joins, most=most)
        is_gap = False
    if len(found) > most:
        raise TooMany
    if found and found[0].start:
        found[0] = replace(found[0], start=0)
    return found


def _heading_end(text: str, start: int, end: int) -> int | None:
    """Where a heading that starts this line ends; a label like "Document 3:" may have text after it."""
    label = _LABEL.match(text, start, end)
    if label and (label.end() < end or text[start:end].rstrip().endswith((":", ")", "]")) or label.end() == end):
        return label.end() if label.end() - start > 1 else None
    line = text[start:end].rstrip()
    if len(line) > _LONGEST_HEADING:
        return None
    if _HEADING.match(line) or _TITLE.match(line) or (line.endswith((":", "：")) and not _ITEM.match(line)):
        return end
    return None


def _add_line(
    found: list[Segment], text: str, start: int, end: int, block: int, heading: int | None, *, joins: bool, most: int
) -> None:
    """One line's segments. Lines of prose that follow each other are one paragraph, cut at its sentence ends."""
    is_line = bool(_TURN.match(text, start, end) or _ITEM.match(text, start, end))
    kind = Kind.LINE if is_line else Kind.SENTENCE
    if is_line and end - start <= _LONGEST_TURN:
        found.append(Segment(start=start, end=end, kind=kind, block=block, heading=heading))
        return
    last = found[-1] if found else None
    is_next = last and last.kind is Kind.SENTENCE and last.block == block and last.end == start
    if last and joins and not is_line and is_next and not ends_sentence(text, last.start, last.end):
        start = found.pop().start
    for piece_start, piece_end in islice(sentences(text, start, end), max(most, 0) + 1):
        found.append(Segment(start=piece_start, end=piece_end, kind=kind, block=block, heading=heading))
