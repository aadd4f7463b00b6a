"""How likely a pair shares its answer: a logistic model of its features, learnt one label at a time.

The weights have a normal distribution (Laplace's approximation), updated by one Newton step a label, so the model knows
how sure it is: the lower edge of its band is what counts, and a model that has seen little is sure of nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_SMALLEST_CURVATURE = 0.01
"""Keeps a surprising label from moving the weights without limit."""
_LARGEST_LOGIT = 30.0


class OnlineLogistic:
    """`means` and `spreads` are the weights before any label."""

    def __init__(self, means: Sequence[float], spreads: Sequence[float]) -> None:
        self._weights = list(means)
        size = len(self._weights)
        self._covariance = [[spreads[i] ** 2 if i == j else 0.0 for j in range(size)] for i in range(size)]

    def lower_logit(self, features: Sequence[float], deviations: float) -> float:
        """Log-odds at so many standard deviations under the mean."""
        spread = math.sqrt(max(0.0, _dot(features, self._times_covariance(features))))
        return _clipped(_dot(self._weights, features) - deviations * spread)

    def learn(self, features: Sequence[float], is_right: bool) -> None:
        """One label. Costs the square of the number of features."""
        chance = 1.0 / (1.0 + math.exp(-_clipped(_dot(self._weights, features))))
        curvature = max(chance * (1.0 - chance), _SMALLEST_CURVATURE)
        shifted = self._times_covariance(features)
        gain = curvature / (1.0 + curvature * _dot(features, shifted))
        for row, row_shift in zip(self._covariance, shifted, strict=True):
            for column, column_shift in enumerate(shifted):
                row[column] -= gain * row_shift * column_shift
        step = self._times_covariance(features)
        surprise = float(is_right) - chance
        self._weights = [weight + change * surprise for weight, change in zip(self._weights, step, strict=True)]

    def _times_covariance(self, features: Sequence[float]) -> list[float]:
        return [_dot(row, features) for row in self._covariance]


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _clipped(logit: float) -> float:
    return min(_LARGEST_LOGIT, max(-_LARGEST_LOGIT, logit))
