"""How much the topic under discussion has to do with the question, for each turn of a conversation.

A turn rarely names what is talked about: of a meeting's turns that answer, most share no word with the question. So
windows of many turns are compared with it, and each turn takes what the windows around it say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

_WINDOW_TOKENS = 270
"""About two minutes of talk."""
_REACH_TOKENS = 400.0
"""Over which a window's score fades by 1/e for turns around it: topics last for many windows."""


def by_topic(
    turns: Sequence[int], sizes: Sequence[int], score: Callable[[Sequence[Sequence[int]]], list[float]]
) -> list[float]:
    """Of each turn, given in order by its number and its size in tokens; `score` compares groups of them."""
    windows = _windows(sizes)
    found = score([turns[start:end] for start, end in windows])
    sums, counts = [0.0] * len(turns), [0] * len(turns)
    for (start, end), value in zip(windows, found, strict=True):
        for place in range(start, end):
            sums[place] += value
            counts[place] += 1
    means = [total / count for total, count in zip(sums, counts, strict=True)]
    return spread(means, sizes, _REACH_TOKENS)


def spread(values: Sequence[float], sizes: Sequence[float], reach: float) -> list[float]:
    """Each value with its neighbours', which count less by 1/e for each `reach` between their middles, and more by the
    root of their size."""
    left, left_weights = _passed(values, sizes, reach)
    right, right_weights = (found[::-1] for found in _passed(values[::-1], sizes[::-1], reach))
    own = [math.sqrt(size) for size in sizes]
    return [
        (left[i] + right[i] - own[i] * value) / (left_weights[i] + right_weights[i] - own[i])
        for i, value in enumerate(values)
    ]


def _passed(values: Sequence[float], sizes: Sequence[float], reach: float) -> tuple[list[float], list[float]]:
    """Sums and weights over each place and those before it."""
    sums: list[float] = []
    weights: list[float] = []
    total = weight = before = 0.0
    for value, size in zip(values, sizes, strict=True):
        fade = math.exp(-(before + size) / 2 / reach)
        sums.append(total := total * fade + math.sqrt(size) * value)
        weights.append(weight := weight * fade + math.sqrt(size))
        before = size
    return sums, weights


def _windows(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Start and end of each; one starts about half-way into the one before."""
    found: list[tuple[int, int]] = []
    start = 0
    while start < len(sizes):
        end, half, size = start, start, 0
        while end < len(sizes) and size < _WINDOW_TOKENS:
            size += sizes[end]
            end += 1
            half = end if size <= _WINDOW_TOKENS / 2 else half
        found.append((start, end))
        if end == len(sizes):
            break
        start = max(half, start + 1)
    return found
