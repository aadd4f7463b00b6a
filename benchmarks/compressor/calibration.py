"""How far predicted chances are from what came out, over pairs of (predicted, came out)."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Predictions between two tenths."""

    count: int
    predicted: float
    observed: float


def reliability(pairs: Sequence[tuple[float, bool]]) -> list[Bin]:
    """The curve: ten bins of equal width, those without a prediction left out."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for chance, came_out in pairs:
        bins[min(BINS - 1, int(chance * BINS))].append((chance, came_out))
    return [
        Bin(
            count=len(own),
            predicted=statistics.mean(chance for chance, _ in own),
            observed=statistics.mean(came_out for _, came_out in own),
        )
        for own in bins
        if own
    ]


def expected_error(pairs: Sequence[tuple[float, bool]]) -> float:
    """The expected calibration error (Guo et al. 2017): mean |predicted - observed| over bins, weighted by count."""
    return sum(one.count * abs(one.predicted - one.observed) for one in reliability(pairs)) / len(pairs)


def error_of_chance(pairs: Sequence[tuple[float, bool]], seed: int = 7, rounds: int = 200) -> float:
    """The error that these predictions would show, in the mean, if each were exactly true."""
    draw = random.Random(seed)
    return statistics.mean(
        expected_error([(chance, draw.random() < chance) for chance, _ in pairs]) for _ in range(rounds)
    )
