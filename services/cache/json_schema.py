"""When two texts are the same JSON: one canonical text for all spellings that differ only in spacing and escapes.

Numbers keep their spelling, duplicate keys stay in order, and what is not JSON stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def canonical_json(text: str, *, sort_keys: bool) -> str:
    """The canonical text; texts that are not JSON, or nested too deeply to be read, come back unchanged."""
    try:
        return json.dumps(_parse(text, sort_keys), separators=(",", ":"))
    except (ValueError, RecursionError):
        return text


def _parse(text: str, sort_keys: bool) -> Any:
    """A tree in which objects and numbers are tagged, so that neither can be taken for an array or a string."""

    def tagged_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        ordered = sorted(pairs, key=lambda pair: pair[0]) if sort_keys else pairs
        return {"o": [list(pair) for pair in ordered]}

    return json.loads(
        text,
        object_pairs_hook=tagged_object,
        parse_int=_tagged_number,
        parse_float=_tagged_number,
        parse_constant=_tagged_number,
    )


def _tagged_number(spelling: str) -> dict[str, str]:
    return {"n": spelling}
