"""What a log line is made of: a time, the words around it, and which of the words are values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_TIMES = (
    r"\d{4}[-/]\d\d[-/]\d\d[T ]" + f"(?P<a>{_CLOCK})" + r"(?:Z|[+-]\d\d:?\d\d)?",
    r"\d\d/(?:\d\d|[A-Z][a-z]{2})/\d{2,4}[: ]" + f"(?P<b>{_CLOCK})" + r"(?: [+-]\d{4})?",
    r"(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} [ \d]\d " + f"(?P<c>{_CLOCK})" + r"(?: \d{4})?",
    r"\d{6} (?P<d>\d{6})(?= )",
    f"(?P<e>{_CLOCK})",
)
_TIME = re.compile(r"(?<![\w.])(?:" + "|".join(_TIMES) + r")(?![\w:])")
_FURTHEST = 48
"""Characters before the time of a line."""
_LONGEST = 4_000
"""Characters of a line."""
_WORD = re.compile(r"[\w.\-]+")
PLACEHOLDER = re.compile(r"<(t|\d+)(?:=([^>]*))?>")
"""Where a template leaves room, for the time or for a value by number, and what an empty cell means there."""
_LEAST_REPEATED_CHARS = 6
"""A shorter value that comes twice in a line does so by chance."""

Slot = str | int | None
"""Fixed text; or the number of the value that is repeated here; or None for a value of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line that has a time."""

    text: str
    frame: tuple[str, str]
    """What stands around the clock in the time: a date, a zone."""
    clock: str
    shape: tuple[Slot, ...]
    """Lines of one shape differ in time and values only. The time is the text `<t>`."""
    values: tuple[str, ...]


def log_line(text: str) -> LogLine | None:
    """None where it has no time near its beginning, is very long, or already holds what looks like a placeholder."""
    found = _TIME.search(text, 0, _FURTHEST + 40) if len(text) <= _LONGEST else None
    if found is None or found.start() > _FURTHEST or PLACEHOLDER.search(text):
        return None
    start, end = found.span(found.lastgroup or 0)
    before, values = _slots(text[: found.start()], ())
    after, values = _slots(text[found.end() :], values)
    return LogLine(
        text=text,
        frame=(text[found.start() : start], text[end : found.end()]),
        clock=text[start:end],
        shape=(*before, "<t>", *after),
        values=values,
    )


def _slots(text: str, values: tuple[str, ...]) -> tuple[list[Slot], tuple[str, ...]]:
    """Fixed text and values in turn; a word with a digit is a value."""
    slots: list[Slot] = []
    found = list(values)
    position = 0
    for word in _WORD.finditer(text):
        slots += [text[position : word.start()]] if word.start() > position else []
        position = word.end()
        if not any(map(str.isdigit, word[0])):
            slots.append(word[0])
        elif len(word[0]) >= _LEAST_REPEATED_CHARS and word[0] in found:
            slots.append(found.index(word[0]))
        else:
            slots.append(None)
            found.append(word[0])
    return [*slots, *([text[position:]] if position < len(text) else [])], tuple(found)


def widened(lines: Sequence[LogLine], shape: tuple[Slot, ...], position: int) -> list[LogLine]:
    """The lines with the word at this place of their shape as a value too."""
    number = sum(slot is None for slot in shape[:position])
    return [_with_value(line, position, number) for line in lines]


def _with_value(line: LogLine, position: int, number: int) -> LogLine:
    shape = [slot + 1 if isinstance(slot, int) and slot >= number else slot for slot in line.shape]
    word = shape[position]
    shape[position] = None
    values = (*line.values[:number], str(word), *line.values[number:])
    return LogLine(text=line.text, frame=line.frame, clock=line.clock, shape=tuple(shape), values=values)
