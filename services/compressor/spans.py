"""Stretches of a text, as half-open ranges of character positions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]


class Spans:
    """Ranges that do not touch, in order; built from ranges in any order, overlapping or not."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(ranges):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            elif start < end:
                self._starts.append(start)
                self._ends.append(end)

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._starts, self._ends, strict=True))

    def covering(self, position: int) -> Range | None:
        """The range that holds this position."""
        index = bisect_right(self._starts, position) - 1
        if index >= 0 and position < self._ends[index]:
            return self._starts[index], self._ends[index]
        return None

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any range shares a position with start..end."""
        index = bisect_right(self._starts, start) - 1
        if index >= 0 and start < self._ends[index]:
            return True
        return index + 1 < len(self._starts) and self._starts[index + 1] < end


def replaced(text: str, replacements: Iterable[tuple[Range, str]]) -> str:
    """The text with each range replaced; ranges in order and apart."""
    pieces: list[str] = []
    position = 0
    for (start, end), piece in replacements:
        pieces += (text[position:start], piece)
        position = end
    pieces.append(text[position:])
    return "".join(pieces)
