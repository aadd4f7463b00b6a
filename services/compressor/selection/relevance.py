"""How much each candidate has to do with the question: its own words, its block's, its neighbours' and a second hop.

The first hop compares with the question. The second adds the names that the best candidates bring in, since the
sentence that answers often shares a name with the one that is asked about and no word with the question.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshkit.embedding.minilm import EmbeddingModel
from meshkit.embedding.words import WordVectors
from services.compressor.selection.bm25 import bm25, rarities
from services.compressor.selection.candidates import Candidate
from services.compressor.selection.closeness import Closeness, closeness
from services.compressor.selection.context import in_context
from services.compressor.selection.passages import passage_scores, passages_of
from services.compressor.selection.segments import Kind
from services.compressor.selection.terms import content_terms, terms, word_set

_BM25_WEIGHT = 0.3
_HOP_WEIGHT = 0.15
_PASSAGE_WEIGHT = 1.0
_LEAD = 0.1
"""For the first sentence of a passage, which says what it is about and often what is asked."""
_HOP_CANDIDATES = 3
_MOST_HOP_TERMS = 24
_CARRIED = 0.6
"""How much of a sentence's score goes to the one before it, where it starts with a word that points back."""
_BROAD = re.compile(
    r"\b(?:summari[sz]e|summary|overview|outline|discuss\w*|opinions?|conclu\w+|attitude|views?"
    r"|main (?:points?|ideas?))\b",
    re.IGNORECASE,
)
_TOPIC_FREE = word_set(
    "summarize summary discussion discuss meeting group opinion talk mention regard idea conclusion decision attitude"
    " view presentation suggest suggestion explain describe concern think say thought said overview"
)
_POINTS_BACK = re.compile(r"\s*(?:he|she|it|they|this|that|these|those|his|her|its|their|such)\b", re.IGNORECASE)
_NAME = re.compile(r"(?<!^)(?<![.!?]\s)\b[A-Z][^\W_]{2,}|\b\d{4}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relevance:
    """Scores of the candidates by their numbers, and how the two kinds of evidence agree."""

    scores: Mapping[int, float]
    agreement: float
    """Share of the best by one kind of evidence that the other has among its best; 1 where there is only one kind."""
    has_vectors: bool


def relevance(
    all_candidates: Sequence[Candidate],
    query: str,
    words: WordVectors | None,
    model: EmbeddingModel | None = None,
) -> Relevance:
    """Of each open candidate."""
    is_broad = bool(_BROAD.search(query))
    asked = _topic(query) if is_broad else query
    own = _Evidence(all_candidates, asked, words)
    numbers = [number for number, one in enumerate(all_candidates) if one.is_open]
    first = in_context(all_candidates, numbers, own.score, is_broad=is_broad)
    hop = _second_hop(all_candidates, numbers, first, own, query)
    scores = {number: first[number] + _HOP_WEIGHT * hop.get(number, 0.0) for number in numbers}
    _carry_back(all_candidates, scores)
    if own.near is not None:
        for number, found in (passage_scores(all_candidates, scores, asked, model) if model else {}).items():
            scores[number] += _PASSAGE_WEIGHT * found
        for passage in passages_of(all_candidates, numbers).values():
            if all_candidates[passage[0]].kind is Kind.SENTENCE:
                scores[passage[0]] += _LEAD
    return Relevance(scores=scores, agreement=own.agreement(numbers), has_vectors=own.near is not None)


class _Evidence:
    """What the words and their meanings say of single candidates and of groups."""

    def __init__(self, all_candidates: Sequence[Candidate], query: str, words: WordVectors | None) -> None:
        self.terms = [content_terms(one.text) for one in all_candidates]
        self._all = all_candidates
        self._query = Counter(set(content_terms(query)))
        self.near: Closeness | None = closeness([one.text for one in all_candidates], query, words) if words else None
        self._by_words = bm25([self.headed_terms(number) for number in range(len(all_candidates))], self._query)

    def headed(self, number: int) -> list[int]:
        """The candidate with what heads it."""
        heading = self._all[number].heading
        return [number] if heading is None else [heading, number]

    def headed_terms(self, number: int) -> list[str]:
        return [term for one in self.headed(number) for term in self.terms[one]]

    def score(self, groups: Sequence[Sequence[int]]) -> list[float]:
        """Of each group of candidates."""
        if len(groups) == len(self._by_words) and all(len(group) == 1 for group in groups):
            by_words = self._by_words
        else:
            by_words = bm25([[term for one in group for term in self.terms[one]] for group in groups], self._query)
        if self.near is None:
            return by_words
        return [self.near.of(group) + _BM25_WEIGHT * found for group, found in zip(groups, by_words, strict=True)]

    def agreement(self, numbers: Sequence[int]) -> float:
        if self.near is None or not numbers:
            return 1.0
        near = self.near
        count = max(1, len(numbers) // 5)
        by_words = sorted(numbers, key=lambda number: -self._by_words[number])[:count]
        by_meaning = sorted(numbers, key=lambda number: -near.of(self.headed(number)))[:count]
        return len(set(by_words) & set(by_meaning)) / count


def _topic(query: str) -> str:
    """The question without the words that every question about a discussion has."""
    kept = [word for word in query.split() if not _TOPIC_FREE.intersection(terms(word))]
    return " ".join(kept) or query


def _second_hop(
    all_candidates: Sequence[Candidate],
    numbers: Sequence[int],
    scores: Mapping[int, float],
    evidence: _Evidence,
    query: str,
) -> dict[int, float]:
    """How well each candidate answers to the names that the best ones bring in."""
    best = sorted(numbers, key=lambda number: (-scores[number], number))[:_HOP_CANDIDATES]
    asked = set(content_terms(query))
    names = Counter(
        term
        for number in best
        for one in evidence.headed(number)
        for name in _NAME.findall(all_candidates[one].text)
        for term in content_terms(name)
        if term not in asked
    )
    if not names:
        return {}
    texts = [evidence.headed_terms(number) for number in numbers]
    rarity = rarities(texts, names)
    rarest = sorted(names, key=lambda term: (-rarity[term], term))[:_MOST_HOP_TERMS]
    found = bm25(texts, dict.fromkeys(rarest, 1.0))
    highest = max(found, default=0.0)
    return {number: value / highest for number, value in zip(numbers, found, strict=True)} if highest else {}


def _carry_back(all_candidates: Sequence[Candidate], scores: dict[int, float]) -> None:
    """A sentence that points back is worth little without the one before it."""
    for number in sorted(scores, reverse=True):
        before = number - 1
        is_next = before in scores and all_candidates[before].block == all_candidates[number].block
        if is_next and all_candidates[number].kind is Kind.SENTENCE and _POINTS_BACK.match(all_candidates[number].text):
            scores[before] = max(scores[before], _CARRIED * scores[number])
