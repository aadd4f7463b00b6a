"""The likeliest tokens of rows of logits, put together from what the ranks tell of their slices, or from a whole row.

A rank's words on a step are float64: the values of all excerpts one behind the other, then the ids, then for each row
the sum of the exponentials of what is not in its excerpt, relative to the excerpt's first value. A row that is not
made of numbers has NaN for values; an excerpt that is longer than the slice ends in -inf with id -1.

Legend: S ranks, R rows of the step, B some of them, K candidates of a row, N candidates of a step, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from services.inference.engine.plan import Excerpt

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Logits = NDArray[np.float32]

_GROUP = 16


class Layout:
    """Where each row's part lies among a rank's words."""

    def __init__(self, excerpts: Many[Excerpt]) -> None:
        self.counts_R: Ints = np.array([excerpt.count for excerpt in excerpts], dtype=np.int64)
        self.temperatures_R = np.array([excerpt.temperature for excerpt in excerpts], dtype=np.float32)
        ends = list(accumulate((excerpt.count for excerpt in excerpts), initial=0))
        self.begins_R: Ints = np.array(ends[:-1], dtype=np.int64)
        self.candidate_count = ends[-1]
        self.row_count = len(excerpts)

    @property
    def word_count(self) -> int:
        return 2 * self.candidate_count + self.row_count


@dataclass(slots=True, kw_only=True)
class Candidates:
    """The likeliest tokens of B rows in order, the lowest id first among equals; then -inf to fill up."""

    values_BK: Floats
    ids_BK: Ints
    counts_B: Ints  # so many are in order and complete
    bounds_B: Floats  # no other token is above it
    rests_B: Floats  # sum of exp((value - first) / temperature) of all others; 0 where nobody asked

    @property
    def are_numbers_B(self) -> NDArray[np.bool_]:
        return np.isfinite(self.values_BK[:, 0])


def likeliest(words_SW: Floats, layout: Layout, rows: Ints) -> tuple[Floats, Ints]:
    """Value and id of the likeliest token of each of these rows [B]; NaN where a row is not made of numbers."""
    begins_B = layout.begins_R[rows]
    values_SB = words_SW[:, begins_B]
    rank_B = values_SB.argmax(axis=0)  # the first of equals, and NaN before all
    at = np.arange(len(rows))
    return values_SB[rank_B, at], words_SW[rank_B, layout.candidate_count + begins_B].astype(np.int64)


def merged(words_SW: Floats, layout: Layout, rows: Ints) -> Candidates:
    """The candidates of these rows over all ranks. What falls behind the first K is added to the rest."""
    counts_B, size = layout.counts_R[rows], len(words_SW)
    most = int(counts_B.max())
    places_BK, is_there_BK = _places(layout.begins_R[rows], counts_B, most)
    values_BX = np.where(is_there_BK, words_SW[:, places_BK], -np.inf).transpose(1, 0, 2).reshape(len(rows), -1)
    ids_BX = words_SW[:, layout.candidate_count + places_BK].transpose(1, 0, 2).reshape(len(rows), -1)
    rests_SB = words_SW[:, 2 * layout.candidate_count + rows]
    if size > 1:
        order_BX = np.argsort(-values_BX, axis=1, kind="stable")
        values_BX = np.take_along_axis(values_BX, order_BX, axis=1)
        ids_BX = np.take_along_axis(ids_BX, order_BX, axis=1)
    values_BK = np.where(is_there_BK, values_BX[:, :most], -np.inf)
    values_BK[np.isnan(values_BX).any(axis=1)] = np.nan  # numpy sorts it last
    return Candidates(
        values_BK=values_BK,
        ids_BK=ids_BX[:, :most].astype(np.int64),
        counts_B=counts_B,
        bounds_B=values_BK[np.arange(len(rows)), counts_B - 1],
        rests_B=_rests(values_BX, counts_B, words_SW[:, layout.begins_R[rows]], rests_SB, layout.temperatures_R[rows]),
    )


def _places(begins_B: Ints, counts_B: Ints, most: int) -> tuple[Ints, NDArray[np.bool_]]:
    steps_K = np.arange(most)
    is_there_BK = steps_K < counts_B[:, None]
    return begins_B[:, None] + np.where(is_there_BK, steps_K, 0), is_there_BK


def _rests(
    values_BX: Floats, counts_B: Ints, firsts_SB: Floats, rests_SB: Floats, temperatures_B: NDArray[np.float32]
) -> Floats:
    is_asked_B = temperatures_B > 0.0
    scales_B = np.where(is_asked_B, temperatures_B, 1.0).astype(np.float64)
    most_B = values_BX[:, 0]
    with np.errstate(invalid="ignore", over="ignore"):
        rests_B = (rests_SB * np.exp((firsts_SB - most_B) / scales_B)).sum(axis=0)
        weights_BX = np.exp((values_BX - most_B[:, None]) / scales_B[:, None])
    is_behind_BX = np.arange(values_BX.shape[1]) >= counts_B[:, None]
    return np.where(is_asked_B, rests_B + np.where(is_behind_BX, weights_BX, 0.0).sum(axis=1), 0.0)


def of_row(logits_V: Logits, ids_K: Ints, rest: float = 0.0) -> Candidates:
    """The same of one whole row (B = 1) that is made of numbers, from its `top_ids`."""
    values_K = logits_V[ids_K].astype(np.float64)
    return Candidates(
        values_BK=values_K[None],
        ids_BK=ids_K[None],
        counts_B=np.array([len(ids_K)]),
        bounds_B=np.array([values_K[-1] if len(ids_K) < len(logits_V) else -np.inf]),
        rests_B=np.array([rest]),
    )


def top_ids(logits_V: Logits, count: int) -> Ints:
    """The likeliest first, the lowest id first among equals."""
    bound = _lower_bound(logits_V, count)
    ids_N = np.arange(len(logits_V)) if bound is None else np.flatnonzero(logits_V >= bound)
    order_N = np.argsort(-logits_V[ids_N], kind="stable")
    return ids_N[order_N[:count]]


def other_weights(logits_V: Logits, ids_K: Ints, temperature: float) -> Logits:
    """exp((logit - first) / temperature) of what is not among the `top_ids`, 0 for these. In float32."""
    with np.errstate(over="ignore"):
        weights_V: Logits = np.exp((logits_V - logits_V[ids_K[0]]) / np.float32(temperature))
    weights_V[ids_K] = 0.0
    return weights_V


def _lower_bound(logits_V: Logits, count: int) -> np.float32 | None:
    """At least `count` logits are not below it: of as many groups, each has one that isn't."""
    group_count = len(logits_V) // _GROUP
    if count > group_count:
        return None
    largest = logits_V[: group_count * _GROUP].reshape(_GROUP, group_count).max(axis=0)
    bound: np.float32 = np.partition(largest, group_count - count)[group_count - count]
    return bound
