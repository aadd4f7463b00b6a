"""Which lines of a log are alike, and what is left to say of each once the template is known."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from services.compressor.stages.log_lines import LogLine, Slot, widened

_LEAST_LINES = 2
_MOST_TEMPLATES = 200
_LEAST_ALIKE = 4
"""Shapes that differ in one word only, from which on the word is a value."""
_MOST_SLOTS = 64


_Groups = defaultdict[tuple[Slot, ...], list[tuple[int, LogLine]]]
"""The lines of each shape, with their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A line's fixed text. Values that are the same in all its lines are part of it."""

    text: str
    """With <t> for the time, <1> and <2> for the values, <3=x> for a value that mostly is x."""
    kept: tuple[_Kept, ...]

    def cells(self, line: LogLine) -> list[str]:
        """The line's own part: its values, empty for those that are the usual one."""
        return [
            "" if line.values[kept.index] == kept.usual else kept.cut(line.values[kept.index]) for kept in self.kept
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A value that a template leaves to its lines."""

    index: int
    head: int
    """Characters at its beginning that are the template's."""
    tail: int
    """And at its end."""
    usual: str | None

    def cut(self, value: str) -> str:
        return value[self.head : len(value) - self.tail]

    def placeholder(self, number: int, value: str) -> str:
        usual = "" if self.usual is None else f"={self.cut(self.usual)}"
        return f"{value[: self.head]}<{number}{usual}>{value[len(value) - self.tail :]}"


def templates_of(lines: Sequence[LogLine]) -> tuple[list[Template], list[tuple[int, LogLine] | None]]:
    """The templates, and for each line its template's number and the line as that template sees it, if it has one."""
    groups: _Groups = defaultdict(list)
    for index, line in enumerate(lines):
        groups[line.shape].append((index, line))
    _merge(groups)
    found = [members for members in groups.values() if len(members) >= _LEAST_LINES]
    found.sort(key=lambda members: (-len(members), members[0][0]))
    chosen = sorted(found[:_MOST_TEMPLATES], key=lambda members: members[0][0])
    places: list[tuple[int, LogLine] | None] = [None] * len(lines)
    for number, members in enumerate(chosen):
        for index, line in members:
            places[index] = (number, line)
    return [_template([line for _, line in members]) for members in chosen], places


def _merge(groups: _Groups) -> None:
    """Make shapes that differ in one word only one shape."""
    alike: dict[tuple[int, tuple[Slot, ...]], list[tuple[Slot, ...]]] = defaultdict(list)
    rare = [shape for shape, members in groups.items() if len(members) < _LEAST_ALIKE and len(shape) <= _MOST_SLOTS]
    for shape in rare[: 5 * _MOST_TEMPLATES]:
        for position, slot in enumerate(shape):
            if isinstance(slot, str) and slot.isalnum():
                alike[position, (*shape[:position], None, *shape[position + 1 :])].append(shape)
    for (position, _), shapes in sorted(alike.items(), key=lambda item: -len(item[1])):
        present = [shape for shape in shapes if shape in groups]
        if len(present) < _LEAST_ALIKE:
            continue
        members = [member for shape in present for member in groups.pop(shape)]
        wide = widened([line for _, line in members], present[0], position)
        members = [(index, line) for (index, _), line in zip(members, wide, strict=True)]
        groups[wide[0].shape] = sorted(groups[wide[0].shape] + members, key=lambda member: member[0])


def _template(lines: Sequence[LogLine]) -> Template:
    kept: list[_Kept] = []
    written: list[str] = []
    for index, column in enumerate(zip(*(line.values for line in lines), strict=True)):
        if all(value == column[0] for value in column):
            written.append(column[0])
            continue
        head, tail = _fixed_ends(column)
        usual, usual_count = Counter(column).most_common(1)[0]
        is_usual = 2 * usual_count > len(column)
        kept.append(_Kept(index=index, head=head, tail=tail, usual=usual if is_usual else None))
        written.append(kept[-1].placeholder(len(kept), column[0]))
    values = iter(written)
    slots = (
        slot if isinstance(slot, str) else next(values) if slot is None else written[slot] for slot in lines[0].shape
    )
    return Template(text="".join(slots), kept=tuple(kept))


def _fixed_ends(column: Sequence[str]) -> tuple[int, int]:
    """Characters that all values begin and end with; no number is cut, and something is left of each value."""
    head = _shared_chars(column)
    tail = _shared_chars([value[head:][::-1] for value in column])
    if any(len(value) <= head + tail for value in column):
        return 0, 0
    return head, tail


def _shared_chars(column: Sequence[str]) -> int:
    """At the beginning of all, up to the last that is no digit."""
    first, last = min(column), max(column)
    different = (index for index, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    shared = first[: next(different, len(first))]
    return len(shared.rstrip("0123456789"))
