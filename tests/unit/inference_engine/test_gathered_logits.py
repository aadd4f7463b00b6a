"""Ranks of several hosts put one row of logits together, though their slices differ by a column."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from torch import Tensor

from services.inference.engine.nodes.gathered import Gather, GatheredLogits

CPU = torch.device("cpu")


class Wire:
    """What every rank sends, time after time; rank 0 asks last."""

    def __init__(self) -> None:
        self.sent: dict[int, list[Tensor]] = defaultdict(list)

    def gather_of(self, rank: int) -> Gather:
        def gather(part: Tensor, parts: list[Tensor]) -> None:
            assert part.is_contiguous() and all(into.is_contiguous() for into in parts)
            self.sent[rank].append(part.clone())
            for into, other in zip(parts, sorted(self.sent), strict=False):
                into.copy_(self.sent[other][len(self.sent[0]) - 1])

        return gather


@pytest.mark.parametrize(("vocabulary", "size"), [(10, 2), (11, 2), (401, 3), (5, 4)])
@pytest.mark.parametrize("rows", [1, 3])
def test_rank_0_reads_the_words_and_the_columns_of_all_ranks(vocabulary: int, size: int, rows: int) -> None:
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
            got = boards[rank].gather(torch.full((2,), float(rank)), rows, list(range(rows)))
            assert boards[rank].first_id == begin
        assert torch.equal(got.logits_RV, whole_RV)
        assert got.words_SW.tolist() == [[float(rank)] * 2 for rank in range(size)]


def test_only_named_rows_are_sent() -> None:
    wire = Wire()
    boards = [GatheredLogits(wire.gather_of(rank), 4, 6, rank=rank, size=2, device=CPU) for rank in range(2)]
    for rank in (1, 0):
        boards[rank].own_columns(3).fill_(1.0)
        got = boards[rank].gather(torch.zeros(1), 3, [1])

    assert wire.sent[1][-1].shape == (1, 3)
    assert got.logits_RV[1].tolist() == [1.0] * 6
