"""The packaged selector: leaves out what was said before, then what has least to do with the question.

It sees the question only as it is given: nothing that a document says becomes part of it, and the second hop takes
names from documents to find other pieces, never to decide what is asked. Where nothing would be kept, everything is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from meshkit.embedding.minilm import EmbeddingModel
from meshkit.embedding.words import WordVectors
from services.compressor.selection.candidates import Candidate, candidates
from services.compressor.selection.choosing import choose
from services.compressor.selection.outline import HANDLE_TOKENS, SHARE, has_sections, outline
from services.compressor.selection.port import Piece, Selected, Task
from services.compressor.selection.redundancy import repeated
from services.compressor.selection.relevance import Relevance, relevance
from services.compressor.selection.tool_schemas import unneeded
from services.compressor.selection.window import recent_turns


class Selection:
    """Without word vectors, or where they can't be loaded, BM25 alone decides; `features` tell.

    Without the model, or for a question in a language that it does not know, words alone tell passages apart.
    """

    name = "selection"
    description = "Leaves out repeated text, then the sentences, turns and rows that have least to do with the question"

    def __init__(self, words: WordVectors | None, model: EmbeddingModel | None = None) -> None:
        self._words = words
        self._model = model

    def select(self, task: Task) -> Selected:
        found = candidates(task)
        again = repeated(found)
        kept = set(range(len(found))) - again.keys()
        scores: Mapping[int, float] = {}
        judged: Relevance | None = None
        budget_tokens = _in_pieces(task, found)
        if task.query.strip() and _tokens(found, kept) > budget_tokens:
            found = _without_unneeded_tools(task, _with_recent_turns(task, found, budget_tokens), budget_tokens)
            judged = relevance(found, task.query, self._words, self._model)
            scores = {number: score for number, score in judged.scores.items() if number not in again}
            kept = _chosen(task, found, scores, budget_tokens)
        if not any(found[number].is_open or found[number].schema for number in kept):
            kept = set(range(len(found)))
        return Selected(parts=_pieces(task, found, kept), features=_features(found, kept, again, scores, judged))


def _chosen(task: Task, found: Sequence[Candidate], scores: Mapping[int, float], budget_tokens: int) -> set[int]:
    if not task.can_expand:
        return choose(found, scores, budget_tokens, task.parts)
    room = int(SHARE * budget_tokens) if has_sections(found) else 0
    kept = choose(found, scores, budget_tokens - room, task.parts, HANDLE_TOKENS)
    return kept | outline(found, kept, room)


def _with_recent_turns(task: Task, found: list[Candidate], budget_tokens: int) -> list[Candidate]:
    """The same with what was said just before the live turn pinned."""
    sizes = [0] * len(task.parts)
    for one in found:
        sizes[one.part] += one.token_count
    recent = recent_turns(task.parts, sizes, budget_tokens)
    return [replace(one, is_pinned=True) if one.part in recent else one for one in found]


def _without_unneeded_tools(task: Task, found: list[Candidate], budget_tokens: int) -> list[Candidate]:
    """The same with every tool pinned, but those that the question does not need and the budget has no room for."""
    tools = [number for number, one in enumerate(found) if one.schema and not one.is_pinned]
    called = {name for part in task.parts for name in part.calls}
    excess = _tokens(found, set(range(len(found)))) - budget_tokens
    idle: set[int] = set()
    for place in unneeded([schema for number in tools if (schema := found[number].schema)], task.query, called):
        if excess > 0:
            idle.add(tools[place])
            excess -= found[tools[place]].token_count
    staying = set(tools) - idle
    return [replace(one, is_pinned=True) if number in staying else one for number, one in enumerate(found)]


def _tokens(found: Sequence[Candidate], numbers: set[int]) -> int:
    return sum(found[number].token_count for number in numbers)


def _in_pieces(task: Task, found: Sequence[Candidate]) -> int:
    """The budget in tokens of single pieces, which have more of them than the same pieces joined."""
    joined = sum(task.count(part.text) for part in task.parts)
    return int(task.budget_tokens * _tokens(found, set(range(len(found)))) / joined) if joined else 0


def _pieces(task: Task, found: Sequence[Candidate], kept: set[int]) -> tuple[tuple[Piece, ...], ...]:
    of_part: list[list[Piece]] = [[] for _ in task.parts]
    for number, one in enumerate(found):
        of_part[one.part].append(Piece(text=one.text, is_kept=number in kept))
    return tuple(map(tuple, of_part))


def _features(
    found: Sequence[Candidate],
    kept: set[int],
    again: Mapping[int, int],
    scores: Mapping[int, float],
    judged: Relevance | None,
) -> dict[str, float]:
    """What may tell how much a reader misses."""
    total = _tokens(found, set(range(len(found)))) or 1
    left = [scores[number] for number in scores if number not in kept]
    chosen = [scores[number] for number in scores if number in kept]
    best, cut = max(scores.values(), default=0.0), max(left, default=0.0)
    return {
        "kept_share": _tokens(found, kept) / total,
        "repeated_share": _tokens(found, set(again)) / total,
        "mass_kept": sum(chosen) / (sum(chosen) + sum(left)) if chosen and sum(chosen) else 1.0,
        "best_score": best,
        "margin_at_cut": (best - cut) / best if best else 1.0,
        "agreement": judged.agreement if judged else 1.0,
        "has_vectors": float(judged is None or judged.has_vectors),
        "log_candidates": math.log1p(len(scores)),
    }
