"""What selection chooses among: the segments of all parts, with what heads them, what they cost and what must stay."""

from __future__ import annotations

from dataclasses import dataclass

from services.compressor.prompt_text import TOOL_SCHEMA
from services.compressor.selection.port import Task
from services.compressor.selection.segments import Kind, Segment, TooMany, segments
from services.compressor.selection.tool_schemas import Schema, schema_of
from services.compressor.shield import Shield

_SELECTABLE = frozenset({"user", "tool", "assistant", TOOL_SCHEMA})

_MAY_BE_TOOLS = (Kind.RECORD, Kind.WHOLE)
MOST_CANDIDATES = 20_000
"""A text in more pieces than any reader's window holds stays as it is, which bounds the time to a few seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One segment of one part."""

    part: int
    text: str
    token_count: int
    kind: Kind
    block: int
    """Number of its block over all parts."""
    heading: int | None
    """Number of the candidate that heads it."""
    is_pinned: bool
    """It is protected and stays, whatever it says."""
    schema: Schema | None = None
    """Of the tool that it is."""

    @property
    def is_open(self) -> bool:
        """Whether its own words decide if it is kept."""
        return not self.is_pinned and self.kind not in (Kind.HEADING, Kind.TOOL)


def candidates(task: Task) -> list[Candidate]:
    """In order; those of a part joined are its text. Parts beyond the limit are one pinned candidate each."""
    found: list[Candidate] = []
    block_offset = 0
    for number, shield in enumerate(task.shields):
        try:
            own = _of_part(task, number, shield, len(found), block_offset)
        except TooMany:
            own = [_uncut(task, number, block_offset)]
        found += own
        block_offset = own[-1].block + 1 if own else block_offset
    return found


def _of_part(task: Task, number: int, shield: Shield, first: int, block_offset: int) -> list[Candidate]:
    part = task.parts[number]
    found: list[Candidate] = []
    for segment in segments(part.text, MOST_CANDIDATES - first):
        text = part.text[segment.start : segment.end]
        head = "" if segment.heading is None else found[segment.heading].text
        schema = schema_of(text, head) if segment.kind in _MAY_BE_TOOLS else None
        found.append(
            Candidate(
                part=number,
                text=text,
                token_count=task.count(text),
                kind=Kind.TOOL if schema else segment.kind,
                block=block_offset + segment.block,
                heading=None if segment.heading is None else first + segment.heading,
                is_pinned=_stays(part.role, schema) or _is_protected(segment, shield),
                schema=schema,
            )
        )
    return found


def _uncut(task: Task, number: int, block: int) -> Candidate:
    text = task.parts[number].text
    return Candidate(
        part=number,
        text=text,
        token_count=task.count(text),
        kind=Kind.WHOLE,
        block=block,
        heading=None,
        is_pinned=True,
    )


def _stays(role: str, schema: Schema | None) -> bool:
    return role not in _SELECTABLE or (role == TOOL_SCHEMA and schema is None)


def _is_protected(segment: Segment, shield: Shield) -> bool:
    return any(spans.overlaps(segment.start, segment.end) for spans in (shield.hard, shield.marked))
