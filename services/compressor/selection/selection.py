"""The packaged selector: leaves out what was said before, then what has least to do with the question.

It sees the question only as it is given: nothing that a document says becomes part of it, and the second hop takes
names from documents to find other pieces, never to decide what is asked. Where nothing would be kept, everything is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from meshkit.embedding.minilm import EmbeddingModel
from meshkit.embedding.words import WordVectors
from services.compressor.prompt_text import Part
from services.compressor.selection.candidates import Candidate, candidates
from services.compressor.selection.choosing import choose
from services.compressor.selection.outline import HANDLE_TOKENS, SHARE, has_sections, outline
from services.compressor.selection.port import Piece, Selected, Task
from services.compressor.selection.redundancy import repeated
from services.compressor.selection.relevance import relevance
from services.compressor.selection.tool_schemas import unneeded
from services.compressor.selection.window import recent_turns
from services.compressor.shield import UNPROTECTED
from services.compressor.token_counter import estimated_tokens


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
        budget_tokens = _in_pieces(task, found)
        if not task.query.strip() or _tokens(found, kept) <= budget_tokens:
            return _selected(task, found, kept, _Notes(again=again))
        judged: _Notes | None = None
        for wanted_tokens in _gentler(budget_tokens, _tokens(found, kept)):
            pinned = _without_unneeded_tools(task, _with_recent_turns(task, found, wanted_tokens), wanted_tokens)
            judged = judged or self._judged(pinned, again, task.query)
            kept = _chosen(task, pinned, judged.scores, wanted_tokens)
            if task.is_enough is None or task.is_enough(judged.features(pinned, kept)):
                break
        return _selected(task, pinned, kept, judged or _Notes(again=again))

    def weigh(self, kept: Sequence[str], left_out: Sequence[str], query: str) -> Mapping[str, float]:
        texts = [*kept, *left_out]
        found = candidates(
            Task(
                parts=tuple(Part(role="tool", text=text) for text in texts),
                shields=(UNPROTECTED,) * len(texts),
                query=query,
                budget_tokens=1,
                count=lambda text: estimated_tokens([text]),
            )
        )
        stays = {number for number, one in enumerate(found) if one.part < len(kept)}
        return self._judged(found, {}, query).features(found, stays)

    def _judged(self, found: Sequence[Candidate], again: Mapping[int, int], query: str) -> _Notes:
        judged = relevance(found, query, self._words, self._model)
        scores = {number: score for number, score in judged.scores.items() if number not in again}
        return _Notes(again=again, scores=scores, agreement=judged.agreement, has_vectors=judged.has_vectors)


def _gentler(budget_tokens: int, all_tokens: int) -> Iterator[int]:
    """The budget, then budgets that leave out half and a quarter as much."""
    yield budget_tokens
    yield from (all_tokens - int(share * (all_tokens - budget_tokens)) for share in (0.5, 0.25))


def _selected(task: Task, found: Sequence[Candidate], kept: set[int], notes: _Notes) -> Selected:
    """Everything, where nothing that could be left out is kept."""
    if not any(found[number].is_open or found[number].schema for number in kept):
        kept = set(range(len(found)))
    return Selected(parts=_pieces(task, found, kept), features=notes.features(found, kept))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Notes:
    """What the candidates were found to be worth."""

    again: Mapping[int, int]
    scores: Mapping[int, float] = field(default_factory=dict)
    agreement: float = 1.0
    has_vectors: bool = True

    def features(self, found: Sequence[Candidate], kept: set[int]) -> dict[str, float]:
        """What may tell how much a reader misses of what is not kept."""
        total = _tokens(found, set(range(len(found)))) or 1
        left = [score for number, score in self.scores.items() if number not in kept]
        chosen = [score for number, score in self.scores.items() if number in kept]
        mass_kept, mass_left = (sum(max(0.0, score) for score in scores) for scores in (chosen, left))
        best, cut = max(self.scores.values(), default=0.0), max(left, default=0.0)
        return {
            "kept_share": _tokens(found, kept) / total,
            "repeated_share": _tokens(found, set(self.again)) / total,
            "mass_kept": mass_kept / (mass_kept + mass_left) if mass_kept + mass_left else 1.0,
            "best_score": best,
            "margin_at_cut": (best - cut) / best if best else 1.0,
            "agreement": self.agreement,
            "has_vectors": float(self.has_vectors),
            "log_candidates": math.log1p(len(self.scores)),
        }
