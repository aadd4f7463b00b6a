"""Other ways to make a prompt of documents shorter, each given the size of ours: the same tokens of the same reader.

The instruction and the question stay in every one. Selective Context (Li et al. 2023) keeps the units that surprise a
causal model most; here that model is the reader itself, and a unit is a sentence or a token. LongLLMLingua has a module
of its own. LLMLingua-2 needs a model of its own that is in no package index, so it has no row.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.compressor.selection.terms import content_terms

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")

Information = Callable[[str], Sequence[tuple[int, float]]]
"""Of each token of a text but the first: its id and its log-probability after those before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The reader's tokenizer."""

    count: Callable[[str], int]
    decode: Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A prompt in its three parts."""

    instruction: str
    documents: str
    question: str

    def around(self, documents: str) -> str:
        """The prompt with other documents."""
        return f"{self.instruction}\n\n{documents}\n\n{self.question}"


Peer = Callable[[Asked, int, Tokens, Information], str]
"""The documents within so many tokens."""


def asked(prompt: str) -> Asked:
    """The parts of a benchmark's prompt: before the first blank line, between, and after the last."""
    instruction, _, rest = prompt.partition("\n\n")
    documents, _, question = rest.rpartition("\n\n")
    return Asked(instruction=instruction, documents=documents, question=question)


def truncated(prompt: Asked, budget_tokens: int, tokens: Tokens, information: Information) -> str:
    """The first documents, up to the budget."""
    return _first_that_fit(_sentences(prompt.documents), budget_tokens, tokens)


def bm25_sentences(prompt: Asked, budget_tokens: int, tokens: Tokens, information: Information) -> str:
    """The sentences that share most with the question, as a plain retriever finds them."""
    units = _sentences(prompt.documents)
    own = [Counter(content_terms(unit)) for unit in units]
    mean = max(1.0, sum(sum(one.values()) for one in own) / max(1, len(own)))
    known = Counter(term for one in own for term in one)
    wanted = set(content_terms(prompt.question))

    def score(counts: Mapping[str, int]) -> float:
        damping = 1.2 * (0.25 + 0.75 * sum(counts.values()) / mean)
        return sum(
            math.log1p((len(own) - known[term] + 0.5) / (known[term] + 0.5)) * count * 2.2 / (count + damping)
            for term, count in counts.items()
            if term in wanted
        )

    return _best_that_fit(units, [score(one) for one in own], budget_tokens, tokens)


def selective_context_sentences(prompt: Asked, budget_tokens: int, tokens: Tokens, information: Information) -> str:
    """The sentences with the highest mean self-information."""
    units = _sentences(prompt.documents)
    surprises = [-logprob for _, logprob in information(" ".join(units))]
    scores, start = [], 0
    for unit in units:
        # Each token counts for the sentence in which it is likely to lie: tokenizers join spaces with what follows.
        end = min(len(surprises), start + max(1, tokens.count(f" {unit}")))
        own = surprises[start:end] or surprises[-1:]
        scores.append(sum(own) / max(1, len(own)))
        start = end
    return _best_that_fit(units, scores, budget_tokens, tokens)


def selective_context_tokens(prompt: Asked, budget_tokens: int, tokens: Tokens, information: Information) -> str:
    """The tokens with the highest self-information, in their order."""
    found = information(" ".join(_sentences(prompt.documents)))
    by_surprise = sorted(range(len(found)), key=lambda place: found[place][1])
    kept = sorted(by_surprise[: max(0, budget_tokens)])
    return tokens.decode([found[place][0] for place in kept])


PEERS: Mapping[str, Peer] = {
    "truncation": truncated,
    "BM25 sentences": bm25_sentences,
    "Selective Context, sentences": selective_context_sentences,
    "Selective Context, tokens": selective_context_tokens,
}


def _sentences(text: str) -> list[str]:
    return [one for one in _SENTENCE_END.split(text) if one.strip()]


def _first_that_fit(units: Iterable[str], budget_tokens: int, tokens: Tokens) -> str:
    kept: list[str] = []
    for unit in units:
        budget_tokens -= tokens.count(f" {unit}")
        if budget_tokens < 0:
            break
        kept.append(unit)
    return " ".join(kept)


def _best_that_fit(units: Sequence[str], scores: Sequence[float], budget_tokens: int, tokens: Tokens) -> str:
    """The best units in their order; one that is too long for what is left is passed over."""
    kept = []
    for place in sorted(range(len(units)), key=lambda place: (-scores[place], place)):
        size = tokens.count(f" {units[place]}")
        if size <= budget_tokens:
            budget_tokens -= size
            kept.append(place)
    return " ".join(units[place] for place in sorted(kept))
