"""JSON as a tree whose strings and numbers stay as they are written, duplicate keys and the order of keys included."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

STRING = r'"(?:[^"\\]++|\\.)*+"'
_TOKEN = re.compile(rf'{STRING}|[\[\]{{}}]|[^"\[\]{{}},:]++', re.DOTALL)

Value: TypeAlias = "str | list[Value] | Record"


@dataclass(slots=True, kw_only=True)
class Record:
    """An object; keys with their quotes."""

    keys: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    def pairs(self) -> list[tuple[str, Value]]:
        return list(zip(self.keys, self.values, strict=True))


def json_tree(minified: str, *, deepest: int) -> Value | None:
    """The tree of valid JSON without spacing; None where it is nested deeper."""
    top: list[Value] = []
    nodes: list[list[Value] | Record] = [top]
    for token in _TOKEN.findall(minified):
        node = nodes[-1]
        if token in "]}":
            nodes.pop()
            continue
        if isinstance(node, Record) and len(node.keys) == len(node.values):
            node.keys.append(token)
            continue
        value: Value = [] if token == "[" else Record() if token == "{" else token
        (node.values if isinstance(node, Record) else node).append(value)
        if not isinstance(value, str):
            nodes.append(value)
            if len(nodes) > deepest + 1:
                return None
    return top[0]


def json_text(value: Value) -> str:
    """The tree as JSON without spacing."""
    if isinstance(value, str):
        return value
    if isinstance(value, Record):
        return "{" + ",".join(f"{key}:{json_text(inner)}" for key, inner in value.pairs()) + "}"
    return "[" + ",".join(map(json_text, value)) + "]"
