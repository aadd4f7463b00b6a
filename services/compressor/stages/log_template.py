"""Log lines as templates with values: what the lines of a log have in common is written once.

    Log of 4 lines by 2 templates, ...:
    A=[<t>] [notice] Found child <1> in slot <2>
    B=[<t>] [error] in state <1=6>
    <t>=Sun Dec 04 * 2005
    A|04:51:08|6725|10
    A|09|6726|8            04:51:09: only the end of the time that changed is written
    B                      at the same time; the state is the usual one
    >a line that is like no other

Lines keep their order, and every byte can be read back; the head says how many rows there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import count, product
from string import ascii_uppercase

from services.compressor.shield import Shield
from services.compressor.spans import replaced
from services.compressor.stages.log_lines import PLACEHOLDER, LogLine, log_line
from services.compressor.stages.log_templates import Template, templates_of
from services.compressor.stages.stage import Loss, Quality, Rewritten

_HEAD = "Log of {} lines by {} templates; rows: template|end of time that changed|<1>|<2>..., empty = as in template:"
_HEADS = re.compile(re.escape(_HEAD).replace(r"\{\}", r"(\d{1,9})") + "\n")
_LEAST_LINES = 8
_MOST_OTHERS = 30
"""Lines without a time, such as those of a stack trace, between two lines with one."""
_TIME_STARTS = re.compile(r"\d\d:\d\d|\d{6} \d{6}")


class LogTemplate:
    """Stretches of log lines outside code."""

    name = "log_template"
    description = "Writes log lines as templates and the values of each line"
    loss = Loss.LOSSLESS
    # Every byte can be read back; a model has to look up each line's template.
    quality = Quality(score=0.97, low=0.88, high=1.0)
    roles = frozenset({"system", "user", "tool"})

    def rewrite(self, text: str, shield: Shield) -> Rewritten:
        changes = []
        if _TIME_STARTS.search(text) and not _HEADS.search(text):
            for start, end, lines in _stretches(text):
                before = text[start:end]
                is_kept = shield.hard.overlaps(start, end) or shield.fenced.overlaps(start, end)
                after = None if is_kept else templated(before.split("\n"), lines)
                if after is not None and len(after) < len(before) and shield.survives(before, after):
                    changes.append(((start, end), after))
        return Rewritten(text=replaced(text, changes) if changes else text, segment_count=len(changes))


def templated(texts: Sequence[str], lines: Sequence[LogLine | None]) -> str | None:
    """The stretch in its short form; None where it would not be read back as it is."""
    timed = [line for line in lines if line is not None]
    templates, places = templates_of(timed)
    labels = list(_labels(len(templates)))
    heads = [f"{label}={template.text}" for label, template in zip(labels, templates, strict=True)]
    rows = _rows(texts, lines, iter(places), labels, templates)
    after = "\n".join([_HEAD.format(len(texts), len(templates)), *heads, *rows])
    return after if expanded(after) == "\n".join(texts) else None


def expanded(text: str) -> str:
    """The inverse."""
    pieces = []
    position = 0
    while found := _HEADS.search(text, position):
        pieces.append(text[position : found.start()])
        log, position = _read(text, found.end(), line_count=int(found[1]), template_count=int(found[2]))
        pieces.append(log)
    return "".join([*pieces, text[position:]])


def _stretches(text: str) -> Iterator[tuple[int, int, list[LogLine | None]]]:
    """Ranges of whole lines that begin and end with a line that has a time."""
    start = position = end = 0
    lines: list[LogLine | None] = []
    others = 0
    for piece in text.split("\n"):
        line = log_line(piece)
        others = 0 if line else others + 1
        if lines and others > _MOST_OTHERS:
            yield from _stretch(start, end, lines)
            lines = []
        if line or lines:
            start = start if lines else position
            lines.append(line)
            end = position + len(piece) if line else end
        position += len(piece) + 1
    yield from _stretch(start, end, lines)


def _stretch(start: int, end: int, lines: list[LogLine | None]) -> Iterator[tuple[int, int, list[LogLine | None]]]:
    while lines and lines[-1] is None:
        lines.pop()
    if sum(line is not None for line in lines) >= _LEAST_LINES:
        yield start, end, lines


def _labels(number: int) -> Iterator[str]:
    """A, B ... Z, AA, AB ..."""
    found = ("".join(letters) for length in count(1) for letters in product(ascii_uppercase, repeat=length))
    return (label for label, _ in zip(found, range(number), strict=False))


def _rows(
    texts: Sequence[str],
    lines: Sequence[LogLine | None],
    places: Iterator[tuple[int, LogLine] | None],
    labels: Sequence[str],
    templates: Sequence[Template],
) -> Iterator[str]:
    frame: tuple[str, str, int] | None = None
    clock = ""
    for text, line in zip(texts, lines, strict=True):
        place = next(places) if line else None
        if place is None:
            yield f">{text}"
            continue
        number, line = place
        if frame != (*line.frame, len(line.clock)):
            frame, clock = (*line.frame, len(line.clock)), ""
            yield f"<t>={line.frame[0]}*{line.frame[1]}"
        cells = [_changed_end(clock, line.clock), *templates[number].cells(line)]
        clock = line.clock
        yield "|".join([labels[number], *cells]).rstrip("|")


def _changed_end(before: str, now: str) -> str:
    """From the first pair of digits that changed."""
    if len(before) != len(now) or before == now:
        return now if before != now else ""
    changed = next(index for index, (one, other) in enumerate(zip(before, now, strict=True)) if one != other)
    step = 3 if ":" in now else 2
    return now[min(changed // step * step, len(now) - 1) :]


def _read(text: str, start: int, *, line_count: int, template_count: int) -> tuple[str, int]:
    """The log that begins behind its head, and where it ends."""
    templates: dict[str, str] = {}
    found: list[str] = []
    around, clock = ("", ""), ""
    position = start
    while len(templates) < template_count or len(found) < line_count:
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        row = text[position:end]
        if len(templates) < template_count:
            label, _, template = row.partition("=")
            templates[label] = template
        elif row.startswith("<t>="):
            head, _, tail = row[4:].partition("*")
            around, clock = (head, tail), ""
        elif row.startswith(">"):
            found.append(row[1:])
        else:
            label, *cells = row.split("|")
            if label not in templates:
                break
            changed = cells[0] if cells else ""
            clock = clock[: max(0, len(clock) - len(changed))] + changed
            found.append(_filled(templates[label], f"{around[0]}{clock}{around[1]}", cells[1:]))
        position = end + 1
        if end == len(text):
            break
    return "\n".join(found), position - 1


def _filled(template: str, time: str, cells: Sequence[str]) -> str:
    def value(place: re.Match[str]) -> str:
        if place[1] == "t":
            return time
        cell = cells[int(place[1]) - 1 : int(place[1])]
        return cell[0] if cell and cell[0] else place[2]

    return PLACEHOLDER.sub(value, template)
