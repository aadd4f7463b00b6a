"""Ranks of several hosts put one row of logits together, though their slices differ by a column."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.inference.engine.nodes.gathered import Gather, GatheredLogits
from services.inference.engine.vocabulary import Gathered


class Wire:
    """Carries what ranks send, call by call; rank 0 must come last."""

    def __init__(self, size: int) -> None:
        self._sent: list[list[Tensor]] = [[] for _ in range(size)]

    def gather_of(self, rank: int) -> Gather:
        def gather(part: Tensor, parts: list[Tensor]) -> None:
            assert part.is_contiguous() and len(parts) == (0 if rank else len(self._sent))
            self._sent[rank].append(part.clone())
            for into, of_rank in zip(parts, self._sent, strict=False):
                into.copy_(of_rank.pop(0))

        return gather


def gathered(boards: list[GatheredLogits], whole_RV: Tensor, words_SW: Tensor, named: list[int]) -> Gathered:
    """What rank 0 gets when each rank has written its columns."""
    size = len(boards)
    for rank in reversed(range(size)):
        begin, end = whole_RV.shape[1] * rank // size, whole_RV.shape[1] * (rank + 1) // size
        assert boards[rank].first_id == begin
        boards[rank].own_columns(len(whole_RV)).copy_(whole_RV[:, begin:end])
        result = boards[rank].gather(words_SW[rank], len(whole_RV), named)
    return result


@pytest.mark.parametrize(("vocabulary", "size"), [(10, 2), (11, 2), (401, 3), (5, 4)])
@pytest.mark.parametrize(("rows", "named"), [(1, [0]), (3, [0, 2]), (3, [0, 1, 2]), (2, [])])
def test_rank_0_has_the_words_of_all_ranks_and_the_rows_that_were_named(
    vocabulary: int, size: int, rows: int, named: list[int]
) -> None:
    wire = Wire(size)
    boards = [GatheredLogits(wire.gather_of(rank), 4, vocabulary, rank=rank, size=size) for rank in range(size)]
    for _ in range(2):  # the second step overwrites the first
        whole_RV, words_SW = torch.randn(rows, vocabulary), torch.randn(size, 7, dtype=torch.float64)
        result = gathered(boards, whole_RV, words_SW, named)
        assert torch.equal(result.words_SW, words_SW)
        assert torch.equal(result.logits_RV[named], whole_RV[named]) and result.logits_RV.shape == whole_RV.shape
