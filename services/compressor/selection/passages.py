"""How near whole passages come to a question in meaning, by the embedding model on the start of each.

A passage that answers may share no rare word with its question, and then only the model finds it. It reads some 2,900
word pieces a second on one core, so it sees what heads the passage and how it begins, and only of the passages that
look best without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from meshkit.embedding.minilm import EmbeddingModel, TooLong, Unavailable
from services.compressor.selection.candidates import Candidate

_MOST_PASSAGES = 10
_START_CHARS = 140
"""About 30 word pieces: ten passages take a tenth of a second."""
_QUESTION_CHARS = 400


def passage_scores(
    all_candidates: Sequence[Candidate], scores: Mapping[int, float], query: str, model: EmbeddingModel
) -> dict[int, float]:
    """Of each open candidate in a passage of several, the cosine of its passage and the question; -1..1.

    A passage that is not read counts as the least near of those that are. Empty where there is nothing to tell apart,
    or no model.
    """
    passages = passages_of(all_candidates, scores)
    best = sorted(passages, key=lambda block: (-max(scores[number] for number in passages[block]), block))
    read = best[:_MOST_PASSAGES]
    if len(read) < 2:
        return {}
    starts = [_start(all_candidates, passages[block][0]) for block in read]
    try:
        asked, *vectors = model.embed([query[-_QUESTION_CHARS:], *starts])
    except Unavailable:
        return {}
    if isinstance(asked, TooLong):
        return {}
    near = {
        block: float(vector @ asked)
        for block, vector in zip(read, vectors, strict=True)
        if not isinstance(vector, TooLong)
    }
    least = min(near.values(), default=0.0)
    return {number: near.get(block, least) for block, numbers in passages.items() for number in numbers}


def passages_of(all_candidates: Sequence[Candidate], numbers: Iterable[int]) -> dict[int, list[int]]:
    """These candidates by their blocks, where a block has several; a message of one block is a turn and no passage."""
    found: dict[int, list[int]] = {}
    for number in sorted(numbers):
        found.setdefault(all_candidates[number].block, []).append(number)
    part_of = {block: all_candidates[own[0]].part for block, own in found.items()}
    block_counts = Counter(part_of.values())
    return {block: own for block, own in found.items() if len(own) > 1 and block_counts[part_of[block]] > 1}


def _start(all_candidates: Sequence[Candidate], number: int) -> str:
    """The passage's heading and how it begins."""
    heading = all_candidates[number].heading
    head = "" if heading is None else f"{all_candidates[heading].text.strip()} "
    return (head + all_candidates[number].text.strip())[:_START_CHARS]
