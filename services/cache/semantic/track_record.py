"""How often pairs of a certain score or a better one were wrong, and how sure that is: the proof behind a hit.

Every judged look-up is counted by its score, and so is every label. Hits are labelled only where they were drawn to be
checked, so labels are scarcest where hits are: the error of all look-ups from a score on is the labelled error of each
stratum of scores, weighted by the look-ups that fell into it. Old counts fade, since traffic changes.
"""

from __future__ import annotations

import math

_LOWEST, _HIGHEST, _STEP = -2.0, 10.0, 0.25
_STRATA = int((_HIGHEST - _LOWEST) / _STEP) + 1


class TrackRecord:
    """Counts per stratum. `fading` is the share of every count that is left after one more look-up."""

    def __init__(self, *, deviations: float, fading: float) -> None:
        self._deviations = deviations
        self._growth = 1.0 / fading
        self._unit = 1.0
        self._seen = [0.0] * _STRATA
        self._labelled = [0.0] * _STRATA
        self._wrong = [0.0] * _STRATA
        self._bounds: list[float] | None = None

    def saw(self, score: float) -> None:
        """A look-up was judged, whatever became of it. New ones count for more, which is how old ones fade."""
        self._unit *= self._growth
        if self._unit > 1e100:
            self._shrink()
        self._seen[_stratum(score)] += self._unit

    def label(self, score: float, is_right: bool) -> None:
        """A judged look-up turned out right or wrong."""
        stratum = _stratum(score)
        self._labelled[stratum] += self._unit
        self._wrong[stratum] += 0.0 if is_right else self._unit
        self._bounds = None

    def upper_error(self, score: float) -> float:
        """Upper limit of the error of all look-ups from a score on that this one is part of; 1 if nothing is known.

        The lowest such limit counts: a pair may be served if it is in some range of scores that is good enough.
        """
        if self._bounds is None:
            self._bounds = self._all_bounds()
        return self._bounds[_stratum(score)]

    def _all_bounds(self) -> list[float]:
        """From the best stratum down, each with all above it; then a better score never has the higher bound."""
        bounds = [1.0] * _STRATA
        seen = wrong = variance = waiting = 0.0
        for stratum in reversed(range(_STRATA)):
            waiting += self._seen[stratum]
            labelled = self._labelled[stratum]
            if not labelled:
                continue  # Judged with the next lower stratum that has labels, which is no better than it.
            wrong += waiting * self._wrong[stratum] / labelled
            variance += waiting**2 / labelled
            seen, waiting = seen + waiting, 0.0
            bounds[stratum] = upper_share(wrong / seen, seen**2 / variance / self._unit, self._deviations)
        for stratum in range(1, _STRATA):
            bounds[stratum] = min(bounds[stratum], bounds[stratum - 1])
        return bounds

    def _shrink(self) -> None:
        for counts in (self._seen, self._labelled, self._wrong):
            counts[:] = [count / self._unit for count in counts]
        self._unit = 1.0


def upper_share(share: float, count: float, deviations: float) -> float:
    """Upper limit of a share seen among `count` (Wilson's score interval)."""
    square = deviations**2
    middle = share + square / (2 * count)
    half = deviations * math.sqrt(max(0.0, share * (1 - share)) / count + square / (4 * count**2))
    return min(1.0, (middle + half) / (1 + square / count))


def _stratum(score: float) -> int:
    return int((min(_HIGHEST, max(_LOWEST, score)) - _LOWEST) / _STEP)
