"""The logits of ranks on several hosts, which share no memory: each sends rank 0 its words, and columns of few rows.

Legend: S ranks, R rows of logits, V vocabulary, v a rank's slice of it, w the widest slice (slices differ by one
column, what is sent does not), W words of one rank (see `candidates`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from services.inference.engine.vocabulary import Gathered, slice_bounds

Gather = Callable[[Tensor, list[Tensor]], None]
"""Send the first to rank 0, which puts those of all ranks into the second; the others pass none."""


class GatheredLogits:
    """A LogitBoard whose `gather` all ranks must call; what it gives has a meaning on rank 0 alone. `device` is where
    the ranks' library for messages wants what it sends.
    """

    def __init__(
        self, gather: Gather, row_count: int, vocabulary_size: int, *, rank: int, size: int, device: torch.device
    ) -> None:
        self._gather, self._rank, self._size, self._device = gather, rank, size, device
        self._bounds = [slice_bounds(vocabulary_size, other, size) for other in range(size)]
        self.first_id, end = self._bounds[rank]
        self._own_count = end - self.first_id
        self._own_Rw = torch.zeros(row_count, max(end - begin for begin, end in self._bounds))
        self._rows_RV = torch.zeros(row_count, vocabulary_size)

    def own_columns(self, row_count: int) -> Tensor:
        return self._own_Rw[:row_count, : self._own_count]

    def gather(self, words_W: Tensor, row_count: int, whole_rows: Sequence[int]) -> Gathered:
        words_SW = self._of_all(words_W)
        if whole_rows:
            parts_SRw = self._of_all(self._own_Rw[list(whole_rows)])
            for part_Rw, (begin, end) in zip(parts_SRw, self._bounds, strict=True):
                self._rows_RV[list(whole_rows), begin:end] = part_Rw[:, : end - begin]
        return Gathered(words_SW=words_SW, logits_RV=self._rows_RV[:row_count])

    def _of_all(self, own: Tensor) -> Tensor:
        """One behind the other on rank 0, and anything of that shape on the others."""
        own = own.to(self._device)
        parts = [torch.empty_like(own) for _ in range(self._size)] if self._rank == 0 else []
        self._gather(own, parts)
        return torch.stack(parts or [own] * self._size).cpu()
