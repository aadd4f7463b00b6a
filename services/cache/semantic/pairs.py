"""What is known of a candidate among its neighbours: the facts that the error bound judges by. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.cache.semantic.error_bound import Pair
from services.cache.semantic.partition import Neighbour
from services.cache.semantic.words import Words


def pair_of(words: Words, candidate: Neighbour, near: Sequence[Neighbour], least_similarity: float) -> Pair:
    """`near` are all near stored questions, the candidate among them, down to `least_similarity`."""
    group = candidate.stored.group
    agreeing = [other for other in near if other.stored.group.number == group.number]
    rivals = [other.similarity for other in near if other.stored.group.number != group.number]
    nearness = sum(_nearness(other, least_similarity) for other in near)
    return Pair(
        similarity=candidate.similarity,
        rival_similarity=max(rivals, default=least_similarity),
        agreeing_count=len(agreeing),
        agreeing_share=sum(_nearness(other, least_similarity) for other in agreeing) / nearness,
        word_overlap=_overlap(words, candidate.stored.words),
        right_count=group.right_count,
        wrong_count=group.wrong_count,
    )


def _nearness(neighbour: Neighbour, least_similarity: float) -> float:
    return neighbour.similarity - least_similarity + 0.01


def _overlap(a: Words, b: Words) -> float:
    ours, theirs = set(a.stems), set(b.stems)
    return len(ours & theirs) / max(1, len(ours | theirs))
