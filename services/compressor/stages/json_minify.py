"""JSON without the spacing between its tokens.

Strings and numbers are copied as they are written, keys keep their order and their duplicates, so every reader of JSON
gets equal values.
"""

from __future__ import annotations

import re

from services.compressor.shield import Shield
from services.compressor.spans import replaced
from services.compressor.stages.json_blocks import find_json
from services.compressor.stages.stage import Loss, Quality, Rewritten

_BETWEEN_SPACES = re.compile(r'(?:"(?:[^"\\]++|\\.)*+"|[^" \t\r\n]++)++', re.DOTALL)


class JsonMinify:
    """JSON blocks in text and in data fences."""

    name = "json_minify"
    description = "Removes the spacing between the tokens of JSON"
    loss = Loss.LOSSLESS
    # Equal values in the densest common spelling; models read it every day.
    quality = Quality(score=0.995, low=0.97, high=1.0)
    roles = frozenset({"system", "user", "tool"})

    def rewrite(self, text: str, shield: Shield) -> Rewritten:
        changes = []
        for start, end in find_json(text, shield).valid:
            block = text[start:end]
            compact = minified(block)
            if len(compact) < len(block) and shield.survives(block, compact):
                changes.append(((start, end), compact))
        return Rewritten(text=replaced(text, changes) if changes else text, segment_count=len(changes))


def minified(json_text: str) -> str:
    """Valid JSON without spacing. Not `json.dumps`, which would rewrite numbers and drop duplicate keys."""
    return "".join(_BETWEEN_SPACES.findall(json_text))
