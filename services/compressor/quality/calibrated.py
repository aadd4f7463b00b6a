"""Predicts from outcomes that were measured: a logistic model of what the selector noted of its own choice.

The interval is that of the model's own uncertainty. Outside the range that the outcomes cover nothing was measured: by
how much a feature lies outside, in spreads, the log-odds fall, and the interval opens downwards and upwards. A signal
that is better than any that was seen counts as the best seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from services.compressor.quality.evidence import Evidence, Signal
from services.compressor.quality.forecast import UNMEASURED
from services.compressor.stages.stage import Quality

_Z = 1.96
_LARGEST_LOGIT = 30.0


class Calibrated:
    """Says what Unmeasured says where a feature is missing or no finite number."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def predict(self, features: Mapping[str, float]) -> Quality:
        found = self._evidence
        bounded = (*found.signals, *found.seen)
        if not all(math.isfinite(features.get(one.name, math.nan)) for one in bounded):
            return UNMEASURED
        values = [1.0, *(_standard(_within(features[one.name], one), one) for one in found.signals)]
        outside = sum(_outside(min(features[one.name], one.most), one) for one in found.signals)
        outside += sum(_outside(features[one.name], one) for one in found.seen)
        logit = sum(weight * value for weight, value in zip(found.weights, values, strict=True)) - outside
        half = _Z * math.sqrt(max(0.0, _spread(values, found.covariance))) + 2 * outside
        return Quality(score=_chance(logit), low=_chance(logit - half), high=_chance(logit + half))


def _standard(value: float, signal: Signal) -> float:
    return (value - signal.middle) / signal.spread


def _within(value: float, signal: Signal) -> float:
    return min(max(value, signal.least), signal.most)


def _outside(value: float, signal: Signal) -> float:
    return abs(value - _within(value, signal)) / signal.spread


def _spread(values: Sequence[float], covariance: Sequence[Sequence[float]]) -> float:
    """Variance of the weighted sum."""
    return sum(a * b * c for a, row in zip(values, covariance, strict=True) for b, c in zip(values, row, strict=True))


def _chance(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -_LARGEST_LOGIT), _LARGEST_LOGIT)))
