"""Whether a stored answer may be given: an upper bound of its error, learnt online, against what the caller accepts.

In the sense of vCache (arXiv 2502.03771): a logistic model says how likely a pair shares its answer, each stored
answer with its own record; a pair is served only where the error is bounded with confidence, and look-ups that would
be hits are generated again at a rate that depends on the certainty, which keeps the evidence fresh. Two differences.
The bound is on the share of wrong ones among the hits, not among all look-ups, so exploring more never excuses a wrong
hit. And evidence is pooled within the partition through the features, since a question that is asked a hundred times
could not prove one percent by itself; what an answer has of its own moves its score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from services.cache.semantic.calibration import Calibration, calibrated
from services.cache.semantic.evidence import Evidence

LEAST_SAMPLING, MOST_SAMPLING = 0.02, 0.10
"""Share of would-be hits that are generated again: far under the accepted error, and at it."""
FEWEST_LABELS = 60
"""Under these nothing is worked out. With fewer than 54, no limit is under 5 %."""
_DUE_AFTER = 25
_DUE_SHARE = 0.02
"""New labels until the rule is worked out again, at least so many and so large a share of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A question and the stored one that could answer it."""

    similarity: float
    rival_similarity: float
    """Of the nearest stored question with another answer; that of the floor where there is none near."""
    agreeing_count: int
    """Near stored questions with the same answer, this one included."""
    agreeing_share: float
    """Of all near ones."""
    near_share: float
    """The same, weighted steeply by nearness."""
    word_overlap: float
    """Content words in common, as a share of all of both."""
    right_count: int
    """Labels of earlier pairs with the same stored answer."""
    wrong_count: int


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
    error_bound: float
    choice: Choice


class ErrorBound:
    """The evidence of one partition and the rule that came of it. `random` is uniform in [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._evidence = Evidence(len(FEATURES))
        self._rule: Calibration | None = None
        self._unused_label_count = 0

    @property
    def size_bytes(self) -> int:
        return self._evidence.size_bytes

    @property
    def is_due(self) -> bool:
        """Whether the rule should be worked out again: enough is new."""
        count = self._evidence.label_count
        return count >= FEWEST_LABELS and self._unused_label_count >= max(_DUE_AFTER, _DUE_SHARE * count)

    def judge(self, pair: Pair, max_error_rate: float) -> Judged:
        """Decide; without evidence, or with too little, the choice is LEARN."""
        row = features(pair)
        self._evidence.saw(row)
        error = 1.0 if self._rule is None else self._rule.upper_error(row)
        return Judged(pair=pair, error_bound=error, choice=self._choice(error, max_error_rate))

    def learn(self, judged: Judged, is_right: bool) -> None:
        """The answer turned out to be the same, or another; or a hit was reported as wrong."""
        was_certain = judged.choice is not Choice.LEARN
        self._evidence.label(features(judged.pair), is_right=is_right, was_certain=was_certain)
        self._unused_label_count += 1

    def begin_update(self) -> Callable[[], Calibration]:
        """Work on a copy of the evidence, which takes milliseconds and may run in a thread; `adopt` its result."""
        self._unused_label_count = 0
        return partial(calibrated, *self._evidence.snapshot())

    def adopt(self, rule: Calibration) -> None:
        """Judge by this rule from now on."""
        self._rule = rule

    def _choice(self, error: float, max_error_rate: float) -> Choice:
        if error > max_error_rate or not max_error_rate:
            return Choice.LEARN
        sampling = max(LEAST_SAMPLING, MOST_SAMPLING * error / max_error_rate)
        return Choice.SAMPLE if self._random() < sampling else Choice.SERVE


FEATURES: tuple[Callable[[Pair], float], ...] = (
    lambda pair: 1.0,
    lambda pair: (pair.similarity - 0.8) * 10,
    lambda pair: (pair.similarity - pair.rival_similarity) * 10,
    lambda pair: math.log(pair.agreeing_count),
    lambda pair: pair.agreeing_share * 2 - 1,
    lambda pair: pair.near_share * 2 - 1,
    lambda pair: pair.word_overlap,
    lambda pair: pair.wrong_count / (pair.right_count + pair.wrong_count + 2),
    # The last one tells kinds of pairs apart, each of which proves its own error; see `calibration`.
    lambda pair: float(pair.right_count > 0),
)
"""About 1 in size each."""


def features(pair: Pair) -> tuple[float, ...]:
    return tuple(feature(pair) for feature in FEATURES)
