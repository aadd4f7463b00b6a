"""The output head, split by vocabulary: each rank scores its own slice, rank 0 reads all slices from shared memory.

AutoTP would split the head by input and all-reduce full-vocabulary logits (1 MB a row at 262k tokens); here each rank
multiplies its rows of the weight only, and one copy of its own columns is all that moves.

Legend: R rows of logits, V vocabulary, v this rank's slice of it.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn


def slice_bounds(vocabulary_size: int, rank: int, size: int) -> tuple[int, int]:
    """Half-open range of token ids that a rank scores."""
    return vocabulary_size * rank // size, vocabulary_size * (rank + 1) // size


class VocabularySlice(nn.Module):
    """Stands in for the model's output head; shares memory with it (and so with tied embeddings)."""

    def __init__(self, head: nn.Linear, rank: int, size: int) -> None:
        super().__init__()
        self.vocabulary_size = head.weight.shape[0]
        self.begin, self.end = slice_bounds(self.vocabulary_size, rank, size)
        self.weight = nn.Parameter(head.weight.detach()[self.begin : self.end], requires_grad=False)
        bias = head.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach()[self.begin : self.end], requires_grad=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.weight, self.bias)


class Board(Protocol):
    """Where one step's logits come together: each rank writes `own_columns`, then all ask for `whole_rows`."""

    def own_columns(self, row_count: int) -> Tensor: ...

    def whole_rows(self, row_count: int) -> Tensor: ...


class LogitBoard:
    """The Board of one host: `own_columns` are written by this rank, `whole_rows` read by rank 0.

    `rows_RV` is shared between ranks and `fence` waits until all have come to the same point; a single rank has the
    whole vocabulary, rows of its own, and no fence.
    """

    def __init__(self, rows_RV: Tensor, begin: int, end: int, fence: Callable[[], None] | None = None) -> None:
        self._rows_RV, self._begin, self._end, self._fence = rows_RV, begin, end, fence

    def own_columns(self, row_count: int) -> Tensor:
        """[row_count, v] to write into."""
        return self._rows_RV[:row_count, self._begin : self._end]

    def whole_rows(self, row_count: int) -> Tensor:
        """[row_count, V] once all ranks have written theirs; valid until the next step."""
        if self._fence is not None:
            self._fence()
        return self._rows_RV[:row_count]


def open_board(fd: int, row_count: int, vocabulary_size: int) -> Tensor:
    """The shared logits [row_count, V], float32."""
    memory = mmap.mmap(fd, row_count * vocabulary_size * 4)
    return torch.frombuffer(memory, dtype=torch.float32).view(row_count, vocabulary_size)
