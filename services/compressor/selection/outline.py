"""The summary level of what is left out: its headings, then the first sentence under each.

Kept where the reader can fetch the rest: every section then has a marker of its own, under words that say what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from services.compressor.selection.candidates import Candidate
from services.compressor.selection.segments import Kind

SHARE = 0.15
"""Of the budget, where there are sections to outline."""
HANDLE_TOKENS = 12
"""Of a marker that names a handle."""


def outline(all_candidates: Sequence[Candidate], kept: set[int], room_tokens: int) -> set[int]:
    """Numbers of headings and first sentences to keep beside what is kept, as far as there is room."""
    bodies = {
        heading: body
        for heading, body in _sections(all_candidates).items()
        if heading not in kept and not kept.intersection(body)
    }
    found: set[int] = set()
    room = room_tokens
    for wanted in (list(bodies), [body[0] for body in bodies.values() if len(body) > 1]):
        for number in wanted:
            cost = all_candidates[number].token_count + (HANDLE_TOKENS if number in bodies else 0)
            if cost <= room:
                found.add(number)
                room -= cost
    return found


def has_sections(all_candidates: Sequence[Candidate]) -> bool:
    """Whether there is anything to outline."""
    return bool(_sections(all_candidates))


def _sections(all_candidates: Sequence[Candidate]) -> Mapping[int, list[int]]:
    """Of each heading of prose the sentences under it."""
    found: dict[int, list[int]] = {}
    for heading, number in _headed(all_candidates):
        found.setdefault(heading, []).append(number)
    return found


def _headed(all_candidates: Sequence[Candidate]) -> Iterator[tuple[int, int]]:
    for number, one in enumerate(all_candidates):
        if one.heading is not None and one.is_open and one.kind is Kind.SENTENCE:
            yield one.heading, number
