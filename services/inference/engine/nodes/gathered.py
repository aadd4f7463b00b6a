"""The logits of ranks on several hosts, which share no memory: each sends its columns to rank 0.

Legend: R rows of logits, V vocabulary, v a rank's slice of it, w the widest slice (slices differ by one column, what is
sent does not).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from services.inference.engine.vocabulary import slice_bounds

Gather = Callable[[Tensor, list[Tensor]], None]
"""Send the first to rank 0, which puts those of all ranks into the second; the others pass none."""


class GatheredLogits:
    """A Board whose `whole_rows` all ranks must call; what it gives has a meaning on rank 0 alone."""

    def __init__(
        self, gather: Gather, row_count: int, vocabulary_size: int, *, rank: int, size: int, device: torch.device
    ) -> None:
        self._gather = gather
        self._bounds = [slice_bounds(vocabulary_size, other, size) for other in range(size)]
        begin, end = self._bounds[rank]
        self._own_count = end - begin
        widest = max(end - begin for begin, end in self._bounds)
        self._own_Rw = torch.zeros(row_count, widest, device=device)
        self._parts = [torch.empty_like(self._own_Rw) for _ in range(size)] if rank == 0 else []
        self._rows_RV = torch.zeros(row_count, vocabulary_size)

    def own_columns(self, row_count: int) -> Tensor:
        """[row_count, v] to write into."""
        return self._own_Rw[:row_count, : self._own_count]

    def whole_rows(self, row_count: int) -> Tensor:
        """[row_count, V] on rank 0, valid until the next step."""
        parts = [part_Rw[:row_count] for part_Rw in self._parts]
        self._gather(self._own_Rw[:row_count], parts)
        for part_Rw, (begin, end) in zip(parts, self._bounds, strict=False):
            self._rows_RV[:row_count, begin:end].copy_(part_Rw[:, : end - begin])
        return self._rows_RV[:row_count]
