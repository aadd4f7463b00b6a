"""How well texts answer to a question by its words: BM25, as the share of what a text with all of them would reach."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

_SATURATION = 1.2
_LENGTH_WEIGHT = 0.5


def bm25(texts: Sequence[Sequence[str]], query: Mapping[str, float]) -> list[float]:
    """Of each text, given as its terms; 0 where it shares none of the query's, towards 1 where it is full of them."""
    rarity = rarities(texts, query)
    most = sum(weight * rarity[term] for term, weight in query.items()) * (_SATURATION + 1)
    if not most or not texts:
        return [0.0] * len(texts)
    mean_length = sum(map(len, texts)) / len(texts) or 1.0
    return [_score(text, query, rarity, mean_length) / most for text in texts]


def rarities(texts: Sequence[Sequence[str]], query: Mapping[str, float]) -> dict[str, float]:
    """How much each of the query's terms tells these texts apart; over 0."""
    counts = Counter(term for text in texts for term in query.keys() & set(text))
    return {term: math.log1p((len(texts) - counts[term] + 0.5) / (counts[term] + 0.5)) for term in query}


def _score(text: Sequence[str], query: Mapping[str, float], rarity: Mapping[str, float], mean_length: float) -> float:
    counts = Counter(term for term in text if term in query)
    damping = _SATURATION * (1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * len(text) / mean_length)
    return sum(
        query[term] * rarity[term] * count * (_SATURATION + 1) / (count + damping) for term, count in counts.items()
    )
