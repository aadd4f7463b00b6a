"""Whether a stored answer may be given: an upper bound of its error, learnt online, against what the caller accepts.

In the sense of vCache (arXiv 2502.03771): a logistic model says how likely a pair shares its answer, each stored
question with its own record; a pair is served only where the error is bounded with confidence, and look-ups that would
be hits are generated again at a rate that depends on the certainty, which keeps the evidence fresh. Two differences.
The bound is on the share of wrong ones among the hits, not among all look-ups, so exploring more never excuses a wrong
hit. And evidence is pooled within the partition through the features, since a question that is asked a hundred times
could not prove one percent by itself; what a question has of its own moves its score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from services.cache.semantic.logistic import OnlineLogistic
from services.cache.semantic.track_record import TrackRecord

LEAST_SAMPLING, MOST_SAMPLING = 0.02, 0.10
"""Share of would-be hits that are generated again: far under the accepted error, and at it."""
_BAND_DEVIATIONS = 1.0
_PROOF_DEVIATIONS = 1.645
"""One-sided 95 %."""
_FADING = 0.9999
_MEANS = (-3.0, 2.0, 1.0, 0.5, 0.5, 0.5, 0.5)
_SPREADS = (3.0, 2.0, 2.0, 1.0, 1.0, 2.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A question and the stored one that could answer it."""

    similarity: float
    rival_similarity: float
    """Of the nearest stored question with another answer; that of the floor where there is none near."""
    agreeing_count: int
    """Near stored questions with the same answer, this one included."""
    agreeing_share: float
    """Their share among all near ones, weighted by nearness."""
    word_overlap: float
    """Content words in common, as a share of all of both."""
    right_count: float
    """Labels of earlier pairs with the same stored answer."""
    wrong_count: float


class Choice(Enum):
    """What to do with a pair."""

    SERVE = "serve"
    SAMPLE = "sample"
    """Would be served, and is generated again to check."""
    LEARN = "learn"
    """Not certain enough: generated, and learnt from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A pair with its bound."""

    pair: Pair
    score: float
    error_bound: float
    choice: Choice


class ErrorBound:
    """The evidence of one partition. `random` is uniform in [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._model = OnlineLogistic(_MEANS, _SPREADS)
        self._record = TrackRecord(deviations=_PROOF_DEVIATIONS, fading=_FADING)

    def judge(self, pair: Pair, max_error_rate: float) -> Judged:
        """Decide; without evidence, or with too little, the choice is LEARN."""
        score = self._model.lower_logit(features(pair), _BAND_DEVIATIONS)
        self._record.saw(score)
        error = self._record.upper_error(score)
        return Judged(pair=pair, score=score, error_bound=error, choice=self._choice(error, max_error_rate))

    def learn(self, judged: Judged, is_right: bool) -> None:
        """The answer turned out to be the same, or another."""
        self._record.label(judged.score, is_right)
        self._model.learn(features(judged.pair), is_right)

    def _choice(self, error: float, max_error_rate: float) -> Choice:
        if error > max_error_rate or not max_error_rate:
            return Choice.LEARN
        sampling = max(LEAST_SAMPLING, MOST_SAMPLING * error / max_error_rate)
        return Choice.SAMPLE if self._random() < sampling else Choice.SERVE


def features(pair: Pair) -> tuple[float, ...]:
    """About 1 in size each."""
    return (
        1.0,
        (pair.similarity - 0.8) * 10,
        (pair.similarity - pair.rival_similarity) * 10,
        math.log(pair.agreeing_count),
        pair.agreeing_share * 2 - 1,
        pair.word_overlap,
        math.log((pair.right_count + 1) / (pair.wrong_count + 1)),
    )
