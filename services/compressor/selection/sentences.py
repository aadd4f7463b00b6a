"""Where sentences end, in scripts with and without blanks; what has no ends is cut at a blank once it is too long."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LONGEST_PIECE = 1_200
"""Characters; what has no sentence ends is cut at a blank beyond this."""
_SHORTEST_WRAPPED = 40
"""Characters; a shorter line ends because its writer ended it."""
_CLOSING = (".", "!", "?", "…", "。", "！", "？", "؟", "۔", "।", '"', "”")
_SENTENCE_END = re.compile(
    r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)\]]))[ \t\r\n]+|(?<=[。！？｡؟۔।॥])[\"'”’」』）]*[ \t\r\n]*"
)
_ABBREVIATED = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|No|Inc|Ltd|Co|approx)\.[ \t]*$"
)


def ends_sentence(text: str, start: int, end: int) -> bool:
    """Whether the writer ended the last line of this stretch, rather than wrapped it."""
    last_line = max(start, text.rfind("\n", start, max(start, end - 1)) + 1)
    is_wrapped = end - last_line >= _SHORTEST_WRAPPED and end - start <= _LONGEST_PIECE
    return not is_wrapped or text[start:end].rstrip().endswith(_CLOSING)


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Start and end of each, blanks after it included."""
    piece = start
    for stop in _SENTENCE_END.finditer(text, start, end):
        is_inside = piece < stop.end() < end
        if is_inside and not _ABBREVIATED.search(text[max(piece, stop.start() - 12) : stop.start()]):
            yield from _cut(text, piece, stop.end())
            piece = stop.end()
    if piece < end:
        yield from _cut(text, piece, end)


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > 2 * _LONGEST_PIECE:
        blank = text.rfind(" ", start + _LONGEST_PIECE // 2, start + _LONGEST_PIECE)
        stop = blank + 1 if blank > 0 else start + _LONGEST_PIECE
        yield start, stop
        start = stop
    yield start, end
