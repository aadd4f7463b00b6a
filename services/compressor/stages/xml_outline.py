"""XML as an outline: no closing tags, short children on their parent's line, repeated elements as tables.

The block begins with one line that says how to read it and ends with its last indented line. It is kept only where
reading it back gives the very elements, attributes and text. White space that only lays XML out is not kept, and an
empty element has one spelling; everything else is.
"""

from __future__ import annotations

import re

from services.compressor.shield import Shield
from services.compressor.spans import replaced
from services.compressor.stages.outline_reader import elements_from
from services.compressor.stages.outline_writer import outline_lines
from services.compressor.stages.stage import Loss, Quality, Rewritten
from services.compressor.stages.xml_blocks import XmlBlock, find_xml
from services.compressor.stages.xml_compact import without_layout
from services.compressor.stages.xml_tree import depth_of, tree_of, xml_of

HEAD = "XML as outline: indented = inside, @ = attribute, a/b = b in a, [x,y] and table rows = repeated"
_DEEPEST = 48
"""Elements inside each other; deeper ones would be more indentation than text."""
_BLOCK = re.compile(rf"{re.escape(HEAD)}\n((?:[<\"][^\n]*\n)*+[^\n]++(?:\n [^\n]++)*+)")
_ENDS_HERE = re.compile(r"\r?\n(?! )|\s*\Z")


class XmlOutline:
    """XML blocks outside fences, since a fence that says `xml` should hold it."""

    name = "xml_outline"
    description = "Writes XML as an outline without closing tags, and repeated elements as tables"
    loss = Loss.LOSSLESS
    # Equal elements, attributes and text, in a form that models see less often than XML.
    quality = Quality(score=0.98, low=0.90, high=1.0)
    roles = frozenset({"system", "user", "tool"})

    def rewrite(self, text: str, shield: Shield) -> Rewritten:
        if HEAD in text:
            return Rewritten(text=text, segment_count=0)
        changes = []
        for block in find_xml(text, shield).valid:
            if shield.fenced.overlaps(block.start, block.end) or not _ENDS_HERE.match(text, block.end):
                continue
            before = text[block.start : block.end]
            after = outlined(block)
            if after is not None and len(after) < len(before) and shield.survives(before, after):
                changes.append(((block.start, block.end), after))
        return Rewritten(text=replaced(text, changes) if changes else text, segment_count=len(changes))


def outlined(block: XmlBlock) -> str | None:
    """The block as an outline; None where it would not be read back as it is."""
    if depth_of(block.tokens) > _DEEPEST:
        return None
    elements = tree_of(without_layout(block.tokens))
    lines = [line for element in elements for line in outline_lines(element)]
    return "\n".join([HEAD, *lines]) if elements_from(lines) == elements else None


def expanded(text: str) -> str:
    """The inverse: XML without layout in place of each outline."""
    return _BLOCK.sub(lambda found: _xml(found[1]), text)


def _xml(outline: str) -> str:
    lines = outline.rstrip()
    return xml_of(elements_from(lines.split("\n"))) + outline[len(lines) :]
