"""What a piece's surroundings add to its own score: a sentence's block, a turn's neighbours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from services.compressor.selection.candidates import Candidate
from services.compressor.selection.segments import Kind

_FULL_LENGTH = 15
"""Tokens; what is shorter says less than its words promise."""
_NEAR = 1.0
_WIDE = 15.0
"""Turns over which neighbours matter: for a question about a fact, and about a whole topic."""
_WIDE_WEIGHT = 8.0
"""Means over many turns differ less than single turns do."""


def in_context(
    all_candidates: Sequence[Candidate],
    numbers: Sequence[int],
    score: Callable[[Sequence[Sequence[int]]], list[float]],
    *,
    is_broad: bool,
) -> dict[int, float]:
    """Sentences with their block; turns, whose blocks are turns too, with their neighbours."""
    groups = [([] if (heading := all_candidates[n].heading) is None else [heading]) + [n] for n in numbers]
    own = dict(zip(numbers, score(groups), strict=True))
    blocks: dict[int, list[int]] = defaultdict(list)
    for number in numbers:
        blocks[all_candidates[number].block].append(number)
    heads = {block: all_candidates[members[0]].heading for block, members in blocks.items()}
    of_block = score([([] if (head := heads[b]) is None else [head]) + blocks[b] for b in blocks])
    by_block = dict(zip(blocks, of_block, strict=True))
    turns = [n for n in numbers if _is_turn(all_candidates[n], blocks[all_candidates[n].block])]
    own |= {n: own[n] * min(1.0, all_candidates[n].token_count / _FULL_LENGTH) for n in turns}
    near = dict(zip(turns, _spread([own[n] for n in turns], _NEAR), strict=True))
    wide = dict(zip(turns, _spread([own[n] for n in turns], _WIDE), strict=True))
    weight = _WIDE_WEIGHT if is_broad else 0.0
    return {
        n: 2 * near[n] + weight * wide[n] if n in near else own[n] + by_block[all_candidates[n].block] for n in numbers
    }


def _is_turn(candidate: Candidate, block: Sequence[int]) -> bool:
    return candidate.kind is Kind.LINE or (len(block) == 1 and candidate.kind is Kind.SENTENCE)


def _spread(values: Sequence[float], reach: float) -> list[float]:
    """Each value with its neighbours', which count less by 1/e for each `reach` places."""
    fade = 2.718281828 ** (-1.0 / reach)

    def passed(given: Sequence[float]) -> tuple[list[float], list[float]]:
        sums: list[float] = []
        weights: list[float] = []
        total = weight = 0.0
        for value in given:
            sums.append(total := total * fade + value)
            weights.append(weight := weight * fade + 1.0)
        return sums, weights

    left, left_weights = passed(values)
    right, right_weights = (list(reversed(one)) for one in passed(list(reversed(values))))
    return [(left[i] + right[i] - value) / (left_weights[i] + right_weights[i] - 1.0) for i, value in enumerate(values)]
