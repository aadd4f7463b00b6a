"""What must not change in a text: the frozen prefix, what the caller marked, code, and quoted or inline pieces.

Stages ask before they rewrite a block, and afterwards whether everything that was marked inside it is still there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from services.compressor.fences import fences
from services.compressor.spans import Range, Spans

_MOST_OCCURRENCES = 100_000
"""A marked string that occurs more often than this protects the whole text."""
_LOOK_BACK = 2_000
"""Characters of the line before a block in which an opening quote is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shield:
    """The protected stretches of one text."""

    hard: Spans
    """The frozen prefix and fenced code: no block may touch them."""
    marked: Spans
    """Occurrences of the caller's strings."""
    fenced: Spans
    """All fenced blocks, data and code."""
    protect: tuple[str, ...]

    def admits(self, text: str, start: int, end: int) -> bool:
        """Whether a data block may be rewritten as a whole: nothing protected lies across its edges or around it."""
        if self.hard.overlaps(start, end) or _is_inside_quotes(text, start):
            return False
        return not any(self._crosses(edge) for edge in (start, end))

    def is_free(self, start: int, end: int) -> bool:
        """Whether nothing at all in this range is protected."""
        return not any(spans.overlaps(start, end) for spans in (self.hard, self.marked, self.fenced))

    def survives(self, before: str, after: str) -> bool:
        """Whether every marked string is still there as often as it was."""
        return all(after.count(marked) >= before.count(marked) for marked in self.protect)

    def _crosses(self, edge: int) -> bool:
        covering = self.marked.covering(edge)
        return covering is not None and covering[0] < edge


UNPROTECTED = Shield(hard=Spans(), marked=Spans(), fenced=Spans(), protect=())
"""Of a text in which nothing is."""


def shield(text: str, *, protect: tuple[str, ...], frozen_chars: int) -> Shield:
    """What is protected in this text, of which the first `frozen_chars` characters are frozen."""
    blocks = list(fences(text))
    hard = [(0, frozen_chars), *(fence.whole for fence in blocks if not fence.holds_data)]
    return Shield(
        hard=Spans(hard),
        marked=Spans(_occurrences(text, protect)),
        fenced=Spans(fence.whole for fence in blocks),
        protect=tuple(marked for marked in protect if marked in text),
    )


def _occurrences(text: str, protect: tuple[str, ...]) -> Iterator[Range]:
    for marked in protect:
        if text.count(marked) > _MOST_OCCURRENCES:
            yield 0, len(text)
            continue
        position = text.find(marked)
        while position >= 0:
            yield position, position + len(marked)
            position = text.find(marked, position + 1)


def _is_inside_quotes(text: str, position: int) -> bool:
    """Inline code and quoted strings do not reach over line ends, so an odd mark before the block opens one."""
    line_start = text.rfind("\n", max(0, position - _LOOK_BACK), position) + 1
    before = text[max(line_start, position - _LOOK_BACK) : position]
    return before.count("`") % 2 == 1 or before.count('"') % 2 == 1
