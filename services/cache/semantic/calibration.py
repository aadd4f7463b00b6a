"""From evidence to a rule: a score for any pair, and the upper limit of the error of all pairs from a score on.

The score is the log-odds of a logistic model at the lower edge of its confidence band (Laplace's approximation), so
that kinds of pairs that were hardly ever labelled score low. The limit: look-ups are put into strata of like scores;
each stratum's error is that of its labels, weighted by its share of the look-ups, since the surest look-ups are
labelled most rarely; the limit is Wilson's, for as many independent labels as the weighting leaves.

The last feature says whether the stored answer was confirmed before, by a label of its own. Pairs of either kind prove
their error by themselves: a thousand right answers to familiar questions say nothing of an answer that nobody ever
asked for twice, which is where look-alikes get in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_PRIOR_PRECISION = 0.1
_NEWTON_STEPS = 12
_BAND_DEVIATIONS = 1.0
_PROOF_DEVIATIONS = 1.645
"""One-sided 95 %."""
_LOWEST, _HIGHEST, _STEP = -2.0, 10.0, 0.125
_STRATA = int((_HIGHEST - _LOWEST) / _STEP) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The rule that the evidence of a moment gives."""

    weights: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    upper_errors: tuple[tuple[float, ...], ...]
    """Per stratum, never rising: of unconfirmed answers and of confirmed ones."""

    def score(self, features: Sequence[float]) -> float:
        mean = _dot(self.weights, features)
        variance = _dot(features, [_dot(row, features) for row in self.covariance])
        return mean - _BAND_DEVIATIONS * math.sqrt(max(0.0, variance))

    def upper_error(self, features: Sequence[float]) -> float:
        """Of the range of scores that this pair is part of and that has the lowest limit."""
        score = min(_HIGHEST, max(_LOWEST, self.score(features)))
        return self.upper_errors[int(features[-1])][int((score - _LOWEST) / _STEP)]


def calibrated(seen_SF: Any, labelled_LF: Any, labels_L: Any) -> Calibration:
    """S judged pairs, L labelled ones, F features. Takes milliseconds."""
    weights_F, covariance_FF = _fitted(labelled_LF, labels_L)

    def strata(rows_NF: Any) -> Any:
        spread_N = ((rows_NF @ covariance_FF) * rows_NF).sum(axis=1).clip(min=0.0) ** 0.5
        scores_N = rows_NF @ weights_F - _BAND_DEVIATIONS * spread_N
        return ((scores_N.clip(_LOWEST, _HIGHEST) - _LOWEST) / _STEP).astype(int)

    return Calibration(
        weights=tuple(weights_F.tolist()),
        covariance=tuple(map(tuple, covariance_FF.tolist())),
        upper_errors=tuple(
            _upper_errors(
                strata(seen_SF[seen_SF[:, -1] == kind]),
                strata(labelled_LF[labelled_LF[:, -1] == kind]),
                labels_L[labelled_LF[:, -1] == kind],
            )
            for kind in (0.0, 1.0)
        ),
    )


def upper_share(share: float, count: float, deviations: float) -> float:
    """Upper limit of a share seen among `count` (Wilson's score interval)."""
    square = deviations**2
    middle = share + square / (2 * count)
    half = deviations * math.sqrt(max(0.0, share * (1 - share)) / count + square / (4 * count**2))
    return min(1.0, (middle + half) / (1 + square / count))


def _fitted(rows_LF: Any, labels_L: Any) -> tuple[Any, Any]:
    """Weights and their covariance, by Newton's method with a weak prior at zero."""
    import numpy as np

    prior_FF = np.eye(rows_LF.shape[1]) * _PRIOR_PRECISION
    weights_F = np.zeros(rows_LF.shape[1])
    for _ in range(_NEWTON_STEPS):
        chances_L = 1.0 / (1.0 + np.exp(-np.clip(rows_LF @ weights_F, -30.0, 30.0)))
        curvature_FF = (rows_LF * (chances_L * (1.0 - chances_L))[:, None]).T @ rows_LF + prior_FF
        slope_F = rows_LF.T @ (labels_L - chances_L) - _PRIOR_PRECISION * weights_F
        weights_F = weights_F + np.linalg.solve(curvature_FF, slope_F)
    return weights_F, np.linalg.inv(curvature_FF)


def _upper_errors(seen_S: Any, labelled_L: Any, labels_L: Any) -> tuple[float, ...]:
    """From the best stratum down, each with all above it."""
    import numpy as np

    seen = np.bincount(seen_S, minlength=_STRATA).tolist()
    labelled = np.bincount(labelled_L, minlength=_STRATA).tolist()
    wrong = np.bincount(labelled_L, weights=1.0 - labels_L, minlength=_STRATA).tolist()
    limits = [1.0] * _STRATA
    total = errors = variance = waiting = 0.0
    for stratum in reversed(range(_STRATA)):
        waiting += seen[stratum]
        if not labelled[stratum] or not waiting:
            continue  # What has no label is judged with the next lower stratum that has, which is no better.
        errors += waiting * wrong[stratum] / labelled[stratum]
        variance += waiting**2 / labelled[stratum]
        total, waiting = total + waiting, 0.0
        limits[stratum] = upper_share(errors / total, total**2 / variance, _PROOF_DEVIATIONS)
    return tuple(min(limits[: stratum + 1]) for stratum in range(_STRATA))


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
