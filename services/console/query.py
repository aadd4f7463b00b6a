"""What a search asks for, read from Jaeger's query parameters.

Durations are Go's ("1.5ms", "2h45m"), with "d" and "w" besides, as Jaeger's page sends them for `lookback`. A missing
service means every service: Jaeger itself refuses that, and our own list of traces needs it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
_DEFAULT_LOOKBACK_US = 2 * 24 * 3600 * 1_000_000
_UNITS_US = {
    "ns": 0.001, "us": 1.0, "µs": 1.0, "μs": 1.0, "ms": 1e3, "s": 1e6,
    "m": 6e7, "h": 3.6e9, "d": 8.64e10, "w": 6.048e11,
}  # fmt: skip
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h|d|w)", re.ASCII)


class BadQuery(Exception):
    """A parameter has no meaning; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceQuery:
    """Which traces to find: those with at least one span that meets all of service, operation, durations and tags."""

    service: str = ""
    operation: str = ""
    start_us: int = 0
    end_us: int = 2**62
    min_duration_us: int = 0
    max_duration_us: int = 2**62
    tags: tuple[tuple[str, str], ...] = ()
    errors_only: bool = False
    """Traces with at least one failed span."""
    limit: int = DEFAULT_LIMIT

    @property
    def names_a_span(self) -> bool:
        """Whether spans must be looked at, not only the list of traces."""
        return bool(self.service or self.operation or self.tags or self.min_duration_us or self.max_duration_us < 2**62)


def parse(parameters: Mapping[str, str], *, tag_pairs: tuple[str, ...] = (), now_us: int) -> TraceQuery:
    """Read the query; raises BadQuery. `tag_pairs` are the repeated `tag=key:value` parameters."""
    query = TraceQuery(
        service=parameters.get("service", ""),
        operation=parameters.get("operation", ""),
        start_us=_start_us(parameters, now_us),
        end_us=_whole(parameters, "end", 2**62),
        min_duration_us=_duration(parameters, "minDuration", 0),
        max_duration_us=_duration(parameters, "maxDuration", 2**62),
        tags=_tags(parameters.get("tags", ""), tag_pairs),
        errors_only=bool(parameters.get("errors")),
        limit=min(_whole(parameters, "limit", DEFAULT_LIMIT), LARGEST_LIMIT),
    )
    if query.max_duration_us < query.min_duration_us:
        raise BadQuery("'maxDuration' should be greater than 'minDuration'")
    return query


def trace_id(text: str) -> bytes:
    """A trace id of up to 32 hexadecimal digits; raises BadQuery."""
    if not re.fullmatch(r"[0-9a-fA-F]{1,32}", text):
        raise BadQuery("a trace id is 1 to 32 hexadecimal digits")
    return bytes.fromhex(text.zfill(32))


def duration_us(text: str) -> int:
    """Microseconds of a duration such as 1.5s or 2h45m; raises ValueError."""
    parts = _DURATION.findall(text)
    if not text or "".join(parts) != text:
        raise ValueError(f"'{text[:40]}' is not a duration such as 150ms, 1.5s or 2h45m")
    return min(int(sum(_part_us(part) for part in parts)), 2**62)


def _part_us(part: str) -> float:
    number = part.rstrip("nuµμmshdw")
    return float(number) * _UNITS_US[part[len(number) :]]


def _start_us(parameters: Mapping[str, str], now_us: int) -> int:
    if parameters.get("start"):
        return _whole(parameters, "start", 0)
    lookback = parameters.get("lookback", "")
    if lookback in ("", "custom"):
        return now_us - _DEFAULT_LOOKBACK_US
    return now_us - _duration(parameters, "lookback", 0)


def _whole(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise BadQuery(f"unable to parse param '{name}': '{text[:40]}' is not a whole number")
    return min(int(text), 2**62)


def _duration(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "").strip()
    try:
        return duration_us(text) if text else default
    except ValueError as problem:
        raise BadQuery(f"unable to parse param '{name}': {problem}") from None


def _tags(text: str, pairs: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    tags = dict(_pair(pair) for pair in pairs)
    if text:
        try:
            found = json.loads(text)
        except ValueError as problem:
            raise BadQuery(f"malformed 'tags' parameter, cannot unmarshal JSON: {problem}") from None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise BadQuery("malformed 'tags' parameter, expecting a JSON object of strings")
        tags.update(found)
    return tuple(tags.items())


def _pair(pair: str) -> tuple[str, str]:
    key, colon, value = pair.partition(":")
    if not colon:
        raise BadQuery(f"malformed 'tag' parameter, expecting key:value, received: {pair[:80]}")
    return key, value
