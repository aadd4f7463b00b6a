"""Log lines as templates with rows of values: what the lines of a log have in common is written once.

There are two layouts of rows, which the stages `log_template` and `log_rows` show. In both, lines keep their order,
every byte can be read back, `>` comes before a line like no other, and the head says how many rows there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, product, zip_longest
from string import ascii_uppercase

from services.compressor.shield import Shield
from services.compressor.spans import replaced
from services.compressor.stages.log_lines import PLACEHOLDER, LogLine, log_line
from services.compressor.stages.log_templates import Template, templates_of
from services.compressor.stages.stage import Rewritten

_MARK = "Log of {} lines by {} templates; rows: "
_LEAST_LINES = 8
_MOST_OTHERS = 30
"""Lines without a time, such as those of a stack trace, between two lines with one."""
_TIME_STARTS = re.compile(r"\d\d:\d\d|\d{6} \d{6}")
_LEAD = re.compile(r"(?:^|(?<=[\s\[(]))[^\s\[(]{0,16}[A-Za-z][^\s\[(]{0,16}(?:[^\w]+[\d./:]{0,8})?$")
"""The last word before a value, with what stands between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a line's own part is written."""

    rows: str
    """What the head says of them."""
    is_spoken: bool
    """The whole clock comes first, and each value after the word that stands before it in the template: a row tells
    its line without its template. Else the template's label, the end of the clock that changed, and bare values."""

    @property
    def head(self) -> str:
        """With places for the numbers of lines and of templates."""
        return f"{_MARK}{self.rows}:"

    def row(self, label: str, leads: Sequence[str], clock: tuple[str, str], cells: Sequence[str]) -> str:
        """`clock`: that of the row before and this one's."""
        if not self.is_spoken:
            return "|".join([label, _changed_end(*clock), *cells]).rstrip("|")
        told = [f"{lead}{cell}" if cell else "" for lead, cell in zip_longest(leads, cells, fillvalue="")]
        return "|".join([clock[1], label, *told]).rstrip("|")

    def read(self, row: str, clock: str) -> tuple[str, str, list[str]]:
        """A row's label, its whole clock and its cells, with the words before values."""
        first, _, rest = row.partition("|")
        second, *cells = rest.split("|")
        if self.is_spoken:
            return second, first, cells
        return first, clock[: max(0, len(clock) - len(second))] + second, cells


SPOKEN = Layout(rows="time|template|<1>|<2>..., empty = as in template", is_spoken=True)
DENSE = Layout(rows="template|end of time that changed|<1>|<2>..., empty = as in template", is_spoken=False)
_HEADS = {
    layout: re.compile(re.escape(layout.head).replace(r"\{\}", r"(\d{1,9})") + "\n") for layout in (SPOKEN, DENSE)
}


def rewritten_logs(text: str, shield: Shield, layout: Layout) -> Rewritten:
    """The text with those stretches of log lines in this layout that get shorter by it and may change. One that already
    holds something in either layout is left alone, so that what is read back is always ours."""
    changes = []
    if _TIME_STARTS.search(text) and not any(head.search(text) for head in _HEADS.values()):
        for start, end, lines in _stretches(text):
            before = text[start:end]
            is_kept = shield.hard.overlaps(start, end) or shield.fenced.overlaps(start, end)
            after = None if is_kept else _written(before, lines, layout)
            if after is not None and len(after) < len(before) and shield.survives(before, after):
                changes.append(((start, end), after))
    return Rewritten(text=replaced(text, changes) if changes else text, segment_count=len(changes))


def _written(log: str, lines: Sequence[LogLine | None], layout: Layout) -> str | None:
    """The log in this layout; None where it would not be read back as it is."""
    texts = log.split("\n")
    templates, places = templates_of([line for line in lines if line is not None])
    labels = list(_labels(len(templates)))
    heads = [f"{label}={template.text}" for label, template in zip(labels, templates, strict=True)]
    rows = _rows(texts, lines, iter(places), labels, templates, layout)
    after = "\n".join([layout.head.format(len(texts), len(templates)), *heads, *rows])
    return after if expanded(after) == log else None


def expanded(text: str) -> str:
    """The inverse of both layouts."""
    for layout in (SPOKEN, DENSE):
        pieces, position = [], 0
        while found := _HEADS[layout].search(text, position):
            pieces.append(text[position : found.start()])
            log, position = _read(text, found.end(), layout, line_count=int(found[1]), template_count=int(found[2]))
            pieces.append(log)
        text = "".join([*pieces, text[position:]])
    return text


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
    layout: Layout,
) -> Iterator[str]:
    leads = [_leads(template.text) for template in templates]
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
        yield layout.row(labels[number], leads[number], (clock, line.clock), templates[number].cells(line))
        clock = line.clock


def _leads(template: str) -> list[str]:
    """The word before each value, where there is one, in the order of the values' numbers."""
    leads: list[str] = []
    position = 0
    for place in PLACEHOLDER.finditer(template):
        if place[1] == str(len(leads) + 1):
            found = _LEAD.search(template, position, place.start())
            leads.append(found[0] if found and not set(found[0]) & set("|\n") else "")
        position = place.end()
    return leads


def _changed_end(before: str, now: str) -> str:
    """From the first pair of digits that changed."""
    if len(before) != len(now) or before == now:
        return now if before != now else ""
    changed = next(index for index, (one, other) in enumerate(zip(before, now, strict=True)) if one != other)
    step = 3 if ":" in now else 2
    return now[min(changed // step * step, len(now) - 1) :]


def _read(text: str, start: int, layout: Layout, *, line_count: int, template_count: int) -> tuple[str, int]:
    """The log that begins behind its head, and where it ends."""
    templates: dict[str, tuple[str, list[str]]] = {}
    """Each with the words before its values."""
    found: list[str] = []
    around, clock = ("", ""), ""
    position = start
    while len(templates) < template_count or len(found) < line_count:
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        row = text[position:end]
        if len(templates) < template_count:
            label, _, template = row.partition("=")
            templates[label] = template, _leads(template) if layout.is_spoken else []
        elif row.startswith("<t>="):
            head, _, tail = row[4:].partition("*")
            around, clock = (head, tail), ""
        elif row.startswith(">"):
            found.append(row[1:])
        else:
            label, clock, cells = layout.read(row, clock)
            if label not in templates:
                break
            template, leads = templates[label]
            if layout.is_spoken:
                cells = [cell.removeprefix(lead) for cell, lead in zip(cells, leads, strict=False)]
            found.append(_filled(template, f"{around[0]}{clock}{around[1]}", cells))
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
