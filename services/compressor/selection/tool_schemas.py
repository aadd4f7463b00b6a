"""Which tools a question may need: those whose schema answers to it nearly as well as the best one's does.

A tool is left out whole or not at all. Where no schema shares a word with the question, as with a question in another
language, all are equally good and all stay. What was called before, or is named by the question, stays in any case.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.compressor.selection.bm25 import bm25
from services.compressor.selection.terms import content_terms
from services.compressor.stages.record_reader import MARKS, expanded

_PARAMETERS = ("parameters", "input_schema", "inputSchema")
_PARAMETERS_WEIGHT = 0.5
_MARGIN = 0.1
"""How far below the best score a tool may be and stay."""
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """A tool's schema, for comparing with a question."""

    name: str
    says: str
    """Name and description."""
    takes: str
    """Names, descriptions and choices of its parameters."""


def schema_of(text: str, head: str = "") -> Schema | None:
    """The schema that an element of an array, or a row under this head of a table, holds; None: it holds none."""
    columns = MARKS.search(head)
    if columns and "name" in head and any(key in head for key in _PARAMETERS):
        text = expanded(head[columns.start() :] + text.rstrip() + "]")
    try:
        found, _ = _DECODER.raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return None
    if columns and isinstance(found, list) and found:
        found = found[0]
    if isinstance(found, dict) and isinstance(found.get("function"), dict):
        found = found["function"]
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    parameters = next((found[key] for key in _PARAMETERS if isinstance(found.get(key), dict)), None)
    if parameters is None:
        return None
    description = found.get("description")
    says = f"{found['name']} {description}" if isinstance(description, str) else found["name"]
    return Schema(name=found["name"], says=says, takes=" ".join(_words(parameters)))


def unneeded(schemas: Sequence[Schema], query: str, called: Collection[str]) -> list[int]:
    """Numbers of the tools that may go, the least useful first."""
    asked = Counter(set(content_terms(query)))
    by_head = bm25([content_terms(one.says) for one in schemas], asked)
    by_parameters = bm25([content_terms(one.takes) for one in schemas], asked)
    scores = [head + _PARAMETERS_WEIGHT * own for head, own in zip(by_head, by_parameters, strict=True)]
    least = max(scores, default=0.0) - _MARGIN
    idle = [
        number
        for number, (one, score) in enumerate(zip(schemas, scores, strict=True))
        if score < least and one.name not in called and one.name not in query
    ]
    return sorted(idle, key=lambda number: (scores[number], -number))


def _words(parameters: dict[str, Any]) -> Iterator[str]:
    waiting: list[Any] = [parameters]
    while waiting:
        properties = waiting.pop().get("properties")
        for name, value in properties.items() if isinstance(properties, dict) else ():
            yield name
            if not isinstance(value, dict):
                continue
            description, choices = value.get("description"), value.get("enum")
            yield from (one for one in (description, *_listed(choices)) if isinstance(one, str))
            waiting.append(value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
