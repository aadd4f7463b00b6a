"""The logits of ranks on several hosts, which share no memory: each sends rank 0 its words, and rows that it asks for.

Legend: S ranks, R rows of logits, V vocabulary, v a rank's slice of it, x the widest slice (slices differ by a column,
what is sent does not), B named rows, W words of one rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from services.inference.engine.vocabulary import Gathered, slice_bounds

Gather = Callable[[Tensor, list[Tensor]], None]
"""Send the first to rank 0, which puts those of all ranks into the second; the others pass none."""


class GatheredLogits:
    """A LogitBoard. `gather` is called in the same order by all ranks."""

    def __init__(self, gather: Gather, row_count: int, vocabulary_size: int, *, rank: int, size: int) -> None:
        self._gather, self._is_reader = gather, rank == 0
        self._bounds = [slice_bounds(vocabulary_size, other, size) for other in range(size)]
        self.first_id, end = self._bounds[rank]
        self._own_count = end - self.first_id
        self._own_Rx = torch.zeros(row_count, max(end - begin for begin, end in self._bounds))
        self._rows_RV = torch.zeros(row_count, vocabulary_size)

    def own_columns(self, row_count: int) -> Tensor:
        return self._own_Rx[:row_count, : self._own_count]

    def gather(self, words_W: Tensor, row_count: int, whole_rows: Sequence[int]) -> Gathered:
        words_SW = words_W.expand(len(self._bounds), -1).clone()
        self._gather(words_W, list(words_SW) if self._is_reader else [])
        if whole_rows:
            self._gather_rows(list(whole_rows))
        return Gathered(words_SW=words_SW, logits_RV=self._rows_RV[:row_count])

    def _gather_rows(self, rows: list[int]) -> None:
        own_Bx = self._own_Rx[rows]
        parts = [torch.empty_like(own_Bx) for _ in self._bounds] if self._is_reader else []
        self._gather(own_Bx, parts)
        for part_Bx, (begin, end) in zip(parts, self._bounds, strict=False):
            self._rows_RV[rows, begin:end] = part_Bx[:, : end - begin]
