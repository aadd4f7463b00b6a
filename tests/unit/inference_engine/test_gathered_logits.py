"""Ranks of several hosts put one row of logits together, though their slices differ by a column."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.inference.engine.nodes.gathered import GatheredLogits

CPU = torch.device("cpu")


class Wire:
    """What every rank sends; rank 0 asks last."""

    def __init__(self) -> None:
        self.sent: dict[int, Tensor] = {}

    def gather_of(self, rank: int):  # type: ignore[no-untyped-def]
        def gather(part: Tensor, parts: list[Tensor]) -> None:
            assert part.is_contiguous() and all(into.is_contiguous() for into in parts)
            self.sent[rank] = part.clone()
            for into, other in zip(parts, sorted(self.sent), strict=False):
                into.copy_(self.sent[other])

        return gather


@pytest.mark.parametrize(("vocabulary", "size"), [(10, 2), (11, 2), (401, 3), (5, 4)])
@pytest.mark.parametrize("rows", [1, 3])
def test_rank_0_reads_the_columns_of_all_ranks(vocabulary: int, size: int, rows: int) -> None:
    wire = Wire()
    boards = [
        GatheredLogits(wire.gather_of(rank), 4, vocabulary, rank=rank, size=size, device=CPU) for rank in range(size)
    ]
    for _ in range(2):  # the second step overwrites the first
        whole_RV = torch.randn(rows, vocabulary)
        for rank in reversed(range(size)):
            own_Rv = boards[rank].own_columns(rows)
            begin, end = vocabulary * rank // size, vocabulary * (rank + 1) // size
            own_Rv.copy_(whole_RV[:, begin:end])
            got_RV = boards[rank].whole_rows(rows)
        assert torch.equal(got_RV, whole_RV)
