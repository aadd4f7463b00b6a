"""What is known of a candidate among its neighbours: the facts that the error bound judges by. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.cache.semantic.error_bound import Pair
from services.cache.semantic.partition import Neighbour
from services.cache.semantic.words import Words

_STEEPNESS = 20.0
"""A neighbour that is nearer by 0.05 weighs e times as much."""


def pair_of(words: Words, candidate: Neighbour, near: Sequence[Neighbour], least_similarity: float) -> Pair:
    """`near` are all near stored questions, the candidate among them, down to `least_similarity`."""
    group = candidate.stored.group
    agreeing = [other for other in near if other.stored.group is group]
    rivals = [other.similarity for other in near if other.stored.group is not group]
    return Pair(
        similarity=candidate.similarity,
        rival_similarity=max(rivals, default=least_similarity),
        agreeing_count=len(agreeing),
        agreeing_share=len(agreeing) / len(near),
        near_share=sum(map(_weight, agreeing)) / sum(map(_weight, near)),
        word_overlap=_overlap(words, candidate.stored.words),
        right_count=group.right_count,
        wrong_count=group.wrong_count,
    )


def _weight(neighbour: Neighbour) -> float:
    return math.exp(_STEEPNESS * neighbour.similarity)


def _overlap(a: Words, b: Words) -> float:
    ours, theirs = set(a.stems), set(b.stems)
    return len(ours & theirs) / max(1, len(ours | theirs))
