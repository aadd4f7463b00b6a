"""Which candidates are kept: the best within the budget, each with its heading, and no gap that saves nothing.

A message of a tool and the assistant's turn that asked for it are kept or left out together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from services.compressor.prompt_text import Part
from services.compressor.selection.candidates import Candidate
from services.compressor.selection.segments import Kind
from services.compressor.selection.window import gaps, tool_units

_SMALLEST_GAP = 6
"""Tokens; a marker for less would save nothing."""
MARKER_TOKENS = 3
_ROUNDS = 4
"""How often the choice is made again with less room, until the markers fit in too."""
_LEAST_SHARE = 0.1
"""Of what is open to selection, kept even where what is protected has used the budget up."""


def choose(
    all_candidates: Sequence[Candidate],
    scores: Mapping[int, float],
    budget_tokens: int,
    parts: Sequence[Part],
    marker_tokens: int = MARKER_TOKENS,
) -> set[int]:
    """Numbers of the candidates to keep. Those without a score stay only where they are pinned or head a kept one."""
    least = _LEAST_SHARE * sum(all_candidates[number].token_count for number in scores)
    wanted: float = budget_tokens
    best: set[int] = set()
    best_size = 0
    for _ in range(_ROUNDS):
        kept = _best_within(all_candidates, scores, wanted, least)
        _keep_units_whole(all_candidates, scores, parts, kept)
        _close_gaps(all_candidates, kept)
        size = _size(all_candidates, kept, parts, marker_tokens)
        if not best or (size > best_size if best_size <= budget_tokens >= size else size < best_size):
            best, best_size = kept, size
        wanted += budget_tokens - size
    return best


def _best_within(
    all_candidates: Sequence[Candidate], scores: Mapping[int, float], budget_tokens: float, least_tokens: float
) -> set[int]:
    kept = {number for number, one in enumerate(all_candidates) if one.is_pinned}
    for number in [number for number in kept if all_candidates[number].kind is Kind.TOOL]:
        kept |= _with_heading(all_candidates, number)
    room = max(budget_tokens - sum(all_candidates[number].token_count for number in kept), least_tokens)
    for number in sorted(scores, key=lambda number: (-scores[number], number)):
        added = _with_heading(all_candidates, number) - kept
        cost = sum(all_candidates[one].token_count for one in added)
        if cost <= room:
            kept |= added
            room -= cost
    return kept


def _size(all_candidates: Sequence[Candidate], kept: set[int], parts: Sequence[Part], marker_tokens: int) -> int:
    """Tokens of what is kept and of a marker for every run that is not."""
    filled, used = ({one.part for one in all_candidates}, {all_candidates[number].part for number in kept})
    without = gaps(parts, [number in filled and number not in used for number in range(len(parts))])
    unsent = {number for gap in without for number in gap[1:]}
    size = 0
    run_part: int | None = None
    for number, one in enumerate(all_candidates):
        if number in kept:
            size += one.token_count
            run_part = None
        elif run_part != one.part:
            size += marker_tokens if one.part not in unsent else 0
            run_part = one.part
    return size


def _with_heading(all_candidates: Sequence[Candidate], number: int) -> set[int]:
    """The candidate, what heads it, and what heads that."""
    found = {number}
    while (heading := all_candidates[number].heading) is not None:
        found.add(heading)
        number = heading
    return found


def _keep_units_whole(
    all_candidates: Sequence[Candidate], scores: Mapping[int, float], parts: Sequence[Part], kept: set[int]
) -> None:
    """Of a unit of which something is kept, every message keeps its best piece at least."""
    of_part: dict[int, list[int]] = defaultdict(list)
    for number, one in enumerate(all_candidates):
        of_part[one.part].append(number)
    for unit in tool_units(parts):
        filled = [part for part in unit if of_part[part]]
        has_kept = {part for part in filled if kept.intersection(of_part[part])}
        for part in filled:
            if has_kept and part not in has_kept:
                best = max(of_part[part], key=lambda number: (scores.get(number, 0.0), -number))
                kept |= _with_heading(all_candidates, best)


def _close_gaps(all_candidates: Sequence[Candidate], kept: set[int]) -> None:
    run: list[int] = []
    for number, one in enumerate(all_candidates):
        if number in kept:
            is_inside = bool(run) and run[0] - 1 in kept and all_candidates[run[0] - 1].part == one.part
            if is_inside and sum(all_candidates[gap].token_count for gap in run) <= _SMALLEST_GAP:
                kept.update(gap for gap in run if all_candidates[gap].kind is not Kind.HEADING)
            run = []
        else:
            if run and all_candidates[run[-1]].part != one.part:
                run = []
            run.append(number)
