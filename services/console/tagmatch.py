"""Whether one span carries all the tags that a search names, as Jaeger matches them.

A tag may stand on the span, on its process, in one of its events, or be one that Jaeger's JSON adds (error,
span.kind, otel.status_code). Values are compared as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from services.console.spans import BodyReader, Process, SpanDetail, Value

_NUMBER_HEX_OR_JSON = re.compile(r"[-+.0-9e]+$|[0-9a-f]*$|[\[{]")
_MADE = {"error", "span.kind", "otel.status_code", "event"}


class TagMatch:
    """A predicate over stored spans, callable from SQL. Decodes a body only if the wanted texts are among its bytes."""

    def __init__(self, wanted: tuple[tuple[str, str], ...], bodies: BodyReader, origins: Mapping[int, Process]) -> None:
        self._wanted = wanted
        self._bodies = bodies
        self._origins = {
            key: {name: text(value) for name, value in (*process.tags, *process.scope_tags)}
            for key, process in origins.items()
        }

    def __call__(self, body: bytes, origin: int, is_error: int, kind: str) -> bool:
        of_process = self._origins.get(origin, {})
        missing = [pair for pair in self._wanted if of_process.get(pair[0]) != pair[1]]
        if not all(_may_hold(body, key, value) for key, value in missing):
            return False
        made = {("span.kind", kind), ("error", "true" if is_error else "false")}
        missing = [pair for pair in missing if pair not in made]
        return not missing or _all_in(missing, self._bodies.detail(body))


def _may_hold(body: bytes, key: str, value: str) -> bool:
    if key in _MADE:
        return True
    return key.encode() in body and (_may_not_be_text(value) or value.encode() in body)


def _may_not_be_text(value: str) -> bool:
    """Whether a number, a boolean, bytes, a list or a table could read like this; those are not stored as text."""
    return value in ("true", "false", "nan", "inf", "-inf") or bool(_NUMBER_HEX_OR_JSON.match(value))


def _all_in(wanted: list[tuple[str, str]], detail: SpanDetail) -> bool:
    found = {(key, text(value)) for key, value in detail.tags}
    found.add(("otel.status_code", detail.status))
    for event in detail.events:
        found.add(("event", event.name))
        found.update((key, text(value)) for key, value in event.tags)
    return found.issuperset(wanted)


def text(value: Value) -> str:
    """A value as a person would type it in a search."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.hex() if isinstance(value, bytes) else str(value)
