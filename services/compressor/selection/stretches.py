"""How a text divides before its sentences are looked at: lines, what is never cut, and records with their head.

Code, logs as templates and outlines are never cut, since their lines need each other. The elements of a JSON array and
the rows of a table stand for themselves; what opens the array, or names the columns, heads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise

from services.compressor.fences import fences
from services.compressor.shield import UNPROTECTED
from services.compressor.stages.json_blocks import find_json

_LEAST_SHARE = 0.5
"""Of a JSON block that an array must fill for its elements to be what the block is about."""
_LONGEST_CLOSING = 8
"""Characters; brackets that go with the last element."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{},]', re.DOTALL)
_WHOLE = re.compile(r"^(?:Log of \d+ lines by \d+ templates;|XML as outline:)", re.MULTILINE)
_WHOLE_HEADS = ("Log of ", "XML as outline:")
_COLUMNS = re.compile(r"\b(?:table|list)\[[^\n]*\n")


class Shape(Enum):
    """What a stretch is."""

    LINE = "line"
    """One line of anything."""
    WHOLE = "whole"
    """Never cut."""
    HEAD = "head"
    """Of the records that follow it."""
    RECORD = "record"


Stretch = tuple[int, int, Shape]


def stretches(text: str) -> Iterator[Stretch]:
    """They follow each other and cover the text."""
    place = 0
    for fence in fences(text):
        start, end = fence.whole
        yield from _outside_fences(text, place, start)
        if end < len(text) and text[end] == "\n":
            end += 1
        yield start, end, Shape.WHOLE
        place = end
    yield from _outside_fences(text, place, len(text))


def _outside_fences(text: str, start: int, end: int) -> Iterator[Stretch]:
    piece = text[start:end]
    place = 0
    for found, stop in find_json(piece, UNPROTECTED).valid:
        if found > place:
            yield from _moved(_lines(piece[place:found]), start + place)
        yield from _moved(_json_units(piece[found:stop]), start + found)
        place = stop
    if place < len(piece):
        yield from _moved(_lines(piece[place:]), start + place)


def _moved(found: Iterator[Stretch], by: int) -> Iterator[Stretch]:
    return ((start + by, end + by, shape) for start, end, shape in found)


def _lines(text: str) -> Iterator[Stretch]:
    """Single lines; what starts as a log or an outline, or as a table, reaches to the next empty line."""
    place = 0
    whole_from: int | None = None
    is_table = False
    while place < len(text):
        end = text.find("\n", place) + 1 or len(text)
        is_empty = not text[place:end].strip()
        if whole_from is not None and is_empty:
            yield whole_from, place, Shape.WHOLE
            whole_from = None
        elif whole_from is None and text.startswith(_WHOLE_HEADS, place) and _WHOLE.match(text, place, end):
            whole_from = place
        is_table = is_table and not is_empty
        if whole_from is None:
            is_head = bool(_COLUMNS.search(text, place, end))
            yield place, end, Shape.HEAD if is_head else Shape.RECORD if is_table else Shape.LINE
            is_table = is_table or is_head
        place = end
    if whole_from is not None:
        yield whole_from, len(text), Shape.WHOLE


def _json_units(block: str) -> Iterator[Stretch]:
    """What opens the array that the block is about, its elements, each with its comma, and what closes it."""
    cuts = _main_array(block)
    if not cuts:
        yield 0, len(block), Shape.WHOLE
        return
    yield 0, cuts[0], Shape.HEAD
    for start, end in pairwise(cuts):
        yield start, end, Shape.RECORD
    yield cuts[-1], len(block), Shape.RECORD


def _main_array(block: str) -> list[int]:
    """Where the elements of the largest array of objects start, and what follows it; none: there is no such array."""
    opened: list[tuple[str, int, list[int], bool]] = []
    best: list[int] = []
    end = len(block)
    for token in _TOKEN.finditer(block):
        mark = token[0]
        if mark in "[{":
            if mark == "{" and opened and opened[-1][0] == "[":
                kind, start, commas, _ = opened[-1]
                opened[-1] = (kind, start, commas, True)
            opened.append((mark, token.end(), [], False))
        elif mark == ",":
            if opened and opened[-1][0] == "[":
                opened[-1][2].append(token.end())
        elif mark in "]}" and opened:
            _, start, commas, has_objects = opened.pop()
            if mark == "]" and has_objects and commas and token.start() - start >= _LEAST_SHARE * len(block):
                best = [start, *commas]
                end = token.start()
    return [*best, end] if len(block) - end > _LONGEST_CLOSING else best
