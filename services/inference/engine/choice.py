"""Which of its candidates a row draws, where that is certain whatever the tokens that are not among them.

Order of operations as in vLLM: temperature, then min_p, top_k and top_p. Many rows at once; each row's result depends
on that row alone. Float64 throughout.

A sum over the whole row is known but for the rounding of its parts, so a draw is certain where all sums within that
bound lead to the same token. The exponentials of what is not a candidate are float32, here and on the ranks: of
x = (value - first) / temperature they are off by at most 2e-7 |x| + 1e-6 of themselves, so both together by less than
2e-5 until they are too small to count.

Legend: B rows, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.inference.engine.candidates import Candidates, Floats, Ints
from services.inference.engine.messages import Sampling

UNCERTAIN = -1
_REST_ERROR = 2e-5
_SUM_ERROR = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filters:
    """The rows' settings; a greedy row draws from the likeliest token alone."""

    temperatures_B1: Floats
    top_ks_B: Ints  # 0: none
    floors_B: Floats  # logarithm of min_p; -inf: none
    top_ps_B: Floats

    @classmethod
    def of(cls, samplings: Many[Sampling]) -> _Filters:
        min_ps_B = np.array([sampling.min_p for sampling in samplings])
        with np.errstate(divide="ignore"):
            floors_B = np.log(min_ps_B)
        return cls(
            temperatures_B1=np.array([[sampling.temperature or 1.0] for sampling in samplings]),
            top_ks_B=np.array([sampling.top_k if sampling.temperature else 1 for sampling in samplings]),
            floors_B=floors_B,
            top_ps_B=np.array([sampling.top_p for sampling in samplings]),
        )


def choose(candidates: Candidates, samplings: Many[Sampling], numbers_B: Floats, *, is_exact: bool = False) -> Ints:
    """The drawn candidate's place of each row [B], or UNCERTAIN. `numbers_B` are uniform in [0, 1).

    `is_exact`: the rests are sums of this process's own, and define what is drawn.
    """
    filters = _Filters.of(samplings)
    firsts_B1 = candidates.values_BK[:, :1]
    with np.errstate(invalid="ignore", over="ignore"):
        scaled_BK = (candidates.values_BK - firsts_B1) / filters.temperatures_B1
        bounds_B = (candidates.bounds_B - firsts_B1[:, 0]) / filters.temperatures_B1[:, 0]
        is_kept_BK = _kept(scaled_BK, candidates.counts_B, filters)
        weights_BK = np.where(is_kept_BK, np.exp(scaled_BK), 0.0)
        return _choose(weights_BK, _is_closed(bounds_B, candidates, filters), candidates, filters, numbers_B, is_exact)


def _kept(scaled_BK: Floats, counts_B: Ints, filters: _Filters) -> NDArray[np.bool_]:
    limits_B = np.where(filters.top_ks_B > 0, np.minimum(filters.top_ks_B, counts_B), counts_B)
    is_within_BK = np.arange(scaled_BK.shape[1]) < limits_B[:, None]
    kept_BK: NDArray[np.bool_] = is_within_BK & (scaled_BK >= filters.floors_B[:, None])
    return kept_BK


def _is_closed(bounds_B: Floats, candidates: Candidates, filters: _Filters) -> NDArray[np.bool_]:
    """Whether no token that the filters let through is missing."""
    has_all_of_top_k = (filters.top_ks_B > 0) & (filters.top_ks_B <= candidates.counts_B)
    closed: NDArray[np.bool_] = has_all_of_top_k | (bounds_B < filters.floors_B) | np.isneginf(bounds_B)
    return closed


def _choose(
    weights_BK: Floats,
    is_closed_B: NDArray[np.bool_],
    candidates: Candidates,
    filters: _Filters,
    numbers_B: Floats,
    is_exact: bool,
) -> Ints:
    sums_BK = weights_BK.cumsum(axis=1)
    masses_B = sums_BK[:, -1]
    totals_B = np.where(is_closed_B, masses_B, masses_B + candidates.rests_B)
    slack_B = np.where(is_closed_B | is_exact, 0.0, _REST_ERROR * candidates.rests_B + _SUM_ERROR * totals_B)
    low_B, high_B = totals_B - slack_B, totals_B + slack_B
    has_nucleus_B = filters.top_ps_B < 1.0
    before_BK = sums_BK - weights_BK
    sizes_B = _nucleus_sizes(before_BK, weights_BK, filters.top_ps_B * high_B)
    is_sure_B = (sizes_B == _nucleus_sizes(before_BK, weights_BK, filters.top_ps_B * low_B)) & (
        is_closed_B | (masses_B >= filters.top_ps_B * high_B)
    )
    of_nucleus_B = np.take_along_axis(sums_BK, sizes_B[:, None] - 1, axis=1)[:, 0]
    places_B = _places(sums_BK, numbers_B * np.where(has_nucleus_B, of_nucleus_B, high_B))
    lower_B = _places(sums_BK, numbers_B * np.where(has_nucleus_B, of_nucleus_B, low_B))
    is_open_B = ~is_closed_B & ~has_nucleus_B
    is_sure_B = np.where(is_open_B, (places_B == lower_B) & (places_B < weights_BK.shape[1]), is_sure_B)
    is_sure_B &= (is_closed_B | _rest_counts(filters)) & (candidates.counts_B > 0)
    chosen: Ints = np.where(is_sure_B, places_B, UNCERTAIN)
    return chosen


def _rest_counts(filters: _Filters) -> NDArray[np.bool_]:
    """Whether no filter is there that part of the rest could pass."""
    passes: NDArray[np.bool_] = (filters.top_ks_B == 0) & np.isneginf(filters.floors_B)
    return passes


def _nucleus_sizes(before_BK: Floats, weights_BK: Floats, targets_B: Floats) -> Ints:
    """The fewest leading candidates whose sum reaches the target; at least one."""
    sizes_B: Ints = ((before_BK < targets_B[:, None]) & (weights_BK > 0.0)).sum(axis=1)
    return np.maximum(sizes_B, 1)


def _places(sums_BK: Floats, points_B: Floats) -> Ints:
    """Where each point falls; a number below 1 times a sum rounds to less than that sum, so never behind its last."""
    places: Ints = (sums_BK <= points_B[:, None]).sum(axis=1)
    return places
