"""What a piece's surroundings add to its own score: a sentence's block, a turn's neighbours and topic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from services.compressor.selection.candidates import Candidate
from services.compressor.selection.segments import Kind
from services.compressor.selection.topics import by_topic, spread

_FULL_LENGTH = 15
"""Tokens; what is shorter says less than its words promise."""
_NEAR = 1.0
"""Turns over which a turn's neighbours count."""
_BROAD_WEIGHT = 8.0
"""Of the topic, where the question is about one; scores of topics differ less than those of single turns do."""
_TRANSCRIPT_WEIGHT = 4.0
"""Of the topic, for the lines of a transcript: what people say aloud leans on what was said before."""
_MESSAGE_WEIGHT = 1.0
_LONGEST_LABEL = 40
_LINES_PER_SPEAKER = 4


def in_context(
    all_candidates: Sequence[Candidate],
    numbers: Sequence[int],
    score: Callable[[Sequence[Sequence[int]]], list[float]],
    *,
    is_broad: bool,
) -> dict[int, float]:
    """Sentences with their block; turns, whose blocks are turns too, with their neighbours and what they talk about."""
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
    sizes = [max(1, all_candidates[n].token_count) for n in turns]
    near = dict(zip(turns, spread([own[n] for n in turns], [1.0] * len(turns), _NEAR), strict=True))
    weights = [_BROAD_WEIGHT] * len(turns) if is_broad else _topic_weights(all_candidates, turns)
    wide = dict.fromkeys(turns, 0.0)
    if any(weights):
        wide = dict(zip(turns, by_topic(turns, sizes, score), strict=True))
    topic = {n: weight * wide[n] for n, weight in zip(turns, weights, strict=True)}
    return {n: 2 * near[n] + topic[n] if n in near else own[n] + by_block[all_candidates[n].block] for n in numbers}


def _topic_weights(all_candidates: Sequence[Candidate], turns: Sequence[int]) -> list[float]:
    """Of a message, of a line that somebody says, and of an item or a row, which stands for itself."""
    of_part: dict[int, list[str]] = defaultdict(list)
    for n in turns:
        of_part[all_candidates[n].part].append(all_candidates[n].text)
    by_part = {part: _topic_weight(lines) for part, lines in of_part.items()}
    return [by_part[all_candidates[n].part] for n in turns]


def _topic_weight(lines: Sequence[str]) -> float:
    if len(lines) == 1:
        return _MESSAGE_WEIGHT
    labels = [label for line in lines for label, colon, _ in [line[:_LONGEST_LABEL].partition(":")] if colon]
    most = len(lines) / _LINES_PER_SPEAKER
    return _TRANSCRIPT_WEIGHT if len(lines) - len(labels) <= most and len(set(labels)) <= most else 0.0


def _is_turn(candidate: Candidate, block: Sequence[int]) -> bool:
    return candidate.kind is Kind.LINE or (len(block) == 1 and candidate.kind is Kind.SENTENCE)
