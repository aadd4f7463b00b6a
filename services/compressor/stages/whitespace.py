"""Blanks at line ends, and more than one empty line in a row. No word, no order and no indentation changes.

Nothing inside code, quotes, XML and whatever only looks like JSON or XML is touched: white space may mean something.
"""

from __future__ import annotations

import re

from services.compressor.shield import Shield
from services.compressor.spans import Range, Spans, replaced
from services.compressor.stages.json_blocks import find_json
from services.compressor.stages.stage import Loss, Quality, Rewritten
from services.compressor.stages.xml_blocks import find_xml

_BLANKS = re.compile(r"(?<=\n)(?:[ \t]*+\r?\n){2,}+|(?<![ \t])[ \t]++(?=\r?\n)")
_SIGNS = (" \n", "\t\n", " \r\n", "\t\r\n", "\n\n\n", "\n\r\n")
"""Without any of these in a text, _BLANKS has no match in it; they are found much faster."""
_QUOTED = re.compile(r'"[^"]{0,2000}+"|“[^”]{0,2000}+”|`[^`\n]*+`')


class Whitespace:
    """Prose of users and tools."""

    name = "whitespace"
    description = "Removes blanks at line ends and repeated empty lines"
    loss = Loss.LOSSLESS
    # Every word is kept; two blanks at a line end can mean a line break in Markdown.
    quality = Quality(score=0.995, low=0.97, high=1.0)
    roles = frozenset({"user", "tool"})

    def rewrite(self, text: str, shield: Shield) -> Rewritten:
        found = list(_BLANKS.finditer(text)) if any(sign in text for sign in _SIGNS) else []
        if not found:
            return Rewritten(text=text, segment_count=0)
        kept = Spans(_kept_ranges(text, shield))
        changes = [
            (blank.span(), _one_line_end(blank[0]))
            for blank in found
            if shield.is_free(*blank.span()) and not kept.overlaps(*blank.span())
        ]
        return Rewritten(text=replaced(text, changes) if changes else text, segment_count=len(changes))


def _one_line_end(blank: str) -> str:
    """What is left of a stretch of blanks or empty lines: one empty line, in the text's own line ends."""
    if blank.endswith("\r\n"):
        return "\r\n"
    return "\n" if blank.endswith("\n") else ""


def _kept_ranges(text: str, shield: Shield) -> list[Range]:
    xml = find_xml(text, shield)
    ranges = [*find_json(text, shield).broken, *((block.start, block.end) for block in xml.valid)]
    if xml.broken_at is not None:
        ranges.append((xml.broken_at, len(text)))
    return [*ranges, *(quoted.span() for quoted in _QUOTED.finditer(text))]
