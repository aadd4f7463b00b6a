"""Where JSON lies in a text, alone or between prose, and where text only looks like JSON.

A stretch that starts like JSON and can't be read is broken: it is left alone as a whole, also where pieces inside it
could be read. Parsing that comes to nothing has a budget, so that the search stays linear in the text's length.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from services.compressor.shield import Shield
from services.compressor.spans import Range, Spans

_CANDIDATE = re.compile(r'\{(?=[ \t\r\n]*+["}])|\[(?=[ \t\r\n]*+[\[{"\-0-9tfn\]])')
_CITATION = re.compile(r"\[(?:0|[1-9]\d{0,3})(?:, {0,2}(?:0|[1-9]\d{0,3})){0,7}\]")
"""JSON that is no data: under _LEAST_ARRAY_CHARS, on one line and without an object. Prose is full of it."""
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
_LEAST_ARRAY_CHARS = 64
_LONGEST_LINE = 10_000
_MOST_BLOCKS = 20_000
"""In one text; what comes after them is left alone."""
_MOST_WASTE = 4
"""Characters parsed in vain, in lengths of the text, after which the rest is left alone."""
_FIRST_WINDOW = 2_048
_LONGEST_LITERAL = 16
"""An error so near the end of a window may come from the cut: of a literal, an escape or a number."""
_DEEP_NESTING_CHARS = 2_000
"""What one attempt at JSON nested too deeply for the parser is counted as."""
_NUMBER_STARTS = frozenset("-0123456789")
_MAY_PRECEDE = frozenset(" \t\r\n:=>|")
_MAY_FOLLOW = frozenset(" \t\r\n,;:<|`")
# Numbers stay text: no digit is lost, and a long one costs nothing.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonBlocks:
    """What was found."""

    valid: tuple[Range, ...]
    """Blocks that may be rewritten."""
    broken: Spans


def find_json(text: str, shield: Shield) -> JsonBlocks:
    """All JSON in the text that the shield admits."""
    valid: list[Range] = []
    broken: list[Range] = []
    if "{" not in text and "[" not in text:
        return JsonBlocks(valid=(), broken=Spans())
    position = 0
    wasted_chars = 0
    while found := _CANDIDATE.search(text, position):
        start = found.start()
        if len(valid) + len(broken) >= _MOST_BLOCKS:
            broken.append((start, len(text)))
            break
        covering = shield.hard.covering(start)
        if covering is not None:
            position = covering[1]
            continue
        if (citation := _CITATION.match(text, start)) is not None:
            position = citation.end()
            continue
        end, parsed_chars = _parsed_end(text, start)
        if end is None:
            wasted_chars += parsed_chars
            end = _broken_end(text, start) if wasted_chars <= _MOST_WASTE * len(text) else len(text)
            broken.append((start, end))
        elif _is_data(text, start, end) and shield.admits(text, start, end):
            valid.append((start, end))
        position = end
    return JsonBlocks(valid=tuple(valid), broken=Spans(broken))


def _parsed_end(text: str, start: int) -> tuple[int | None, int]:
    """The end of the JSON value (None: it can't be read) and how many characters were looked at.

    Parsed in windows that grow, since each error costs the parser a walk over the whole text that it was given.
    """
    window_chars = _FIRST_WINDOW
    while True:
        window = text[start : start + window_chars]
        try:
            end = _DECODER.raw_decode(window)[1]
        except json.JSONDecodeError as error:
            is_cut = error.msg.startswith("Unterminated") or error.pos > len(window) - _LONGEST_LITERAL
            if not is_cut:
                return None, error.pos
            if start + window_chars >= len(text):
                return None, len(window)
        except RecursionError:
            return None, _DEEP_NESTING_CHARS
        else:
            return start + end, end
        window_chars *= 8


def _broken_end(text: str, start: int) -> int:
    """Behind the bracket that closes it, else the end of the text; what starts like an interval ends with its line."""
    limit = len(text)
    if text[start] == "[" and text[start + 1] in _NUMBER_STARTS:
        line_end = text.find("\n", start, start + _LONGEST_LINE)
        limit = line_end if line_end >= 0 else min(limit, start + _LONGEST_LINE)
    depth = 0
    for token in _STRUCTURE.finditer(text, start, limit):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
            if depth == 0:
                return token.end()
    return limit


def _is_data(text: str, start: int, end: int) -> bool:
    """Whether a reader would call it data: not a citation such as [1, 2], and not part of an expression."""
    if start and text[start - 1] not in _MAY_PRECEDE:
        return False
    if end < len(text) and text[end] not in _MAY_FOLLOW and not _ends_sentence(text, end):
        return False
    return text[start] == "{" or end - start >= _LEAST_ARRAY_CHARS or "{" in text[start:end] or "\n" in text[start:end]


def _ends_sentence(text: str, end: int) -> bool:
    return text[end] in ".!?" and (end + 1 == len(text) or text[end + 1].isspace())
