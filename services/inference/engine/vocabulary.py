"""The output head, split by vocabulary: each rank scores its own slice and tells rank 0 an excerpt of each row.

AutoTP would split the head by input and all-reduce full-vocabulary logits (1 MB a row at 262k tokens); here each rank
multiplies its rows of the weight only, and a few words a row are all that moves where the excerpt is enough.

Legend: S ranks, R rows of logits, V vocabulary, v this rank's slice of it, W words of one rank (see `candidates`).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from services.inference.engine.excerpts import MOST_CANDIDATES


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What rank 0 has of a step, valid until the next; on other ranks, anything of the same shape. On the CPU."""

    words_SW: Tensor  # float64
    logits_RV: Tensor  # float32; the rows that were named are complete, others may be anything


class LogitBoard(Protocol):
    """Where one step's logits come together. Every rank writes its columns, then gathers, with the same numbers of rows
    and words and the same names of rows.
    """

    @property
    def first_id(self) -> int:
        """The token that the first of this rank's columns is for."""
        ...

    def own_columns(self, row_count: int) -> Tensor:
        """[row_count, v], float32 on the CPU, to write into: at least the rows that will be named."""
        ...

    def gather(self, words_W: Tensor, row_count: int, whole_rows: Sequence[int]) -> Gathered:
        """Bring every rank's words, and these rows of logits, to rank 0."""
        ...


class SharedBoard:
    """Memory that all ranks have mapped; `fence` waits until all have come to the same point. A single rank has the
    whole vocabulary, memory of its own, and no fence.
    """

    def __init__(
        self, rows_RV: Tensor, words_SW: Tensor, rank: int = 0, fence: Callable[[], None] | None = None
    ) -> None:
        self._rows_RV, self._words_SW, self._rank, self._fence = rows_RV, words_SW, rank, fence
        self.first_id, self._end = slice_bounds(rows_RV.shape[1], rank, words_SW.shape[0])

    @classmethod
    def alone(cls, row_count: int, vocabulary_size: int) -> SharedBoard:
        return cls(torch.empty(row_count, vocabulary_size), _empty_words(row_count, 1))

    def own_columns(self, row_count: int) -> Tensor:
        return self._rows_RV[:row_count, self.first_id : self._end]

    def gather(self, words_W: Tensor, row_count: int, whole_rows: Sequence[int]) -> Gathered:
        self._words_SW[self._rank, : len(words_W)] = words_W
        if self._fence is not None:
            self._fence()
        return Gathered(words_SW=self._words_SW[:, : len(words_W)], logits_RV=self._rows_RV[:row_count])


def board_bytes(row_count: int, vocabulary_size: int, size: int) -> int:
    """Shared memory that the ranks' board takes."""
    return row_count * (vocabulary_size * 4 + size * _WORDS_A_ROW * 8)


def open_board(
    fd: int, row_count: int, vocabulary_size: int, rank: int, size: int, fence: Callable[[], None]
) -> SharedBoard:
    """`fd` names `board_bytes` of memory."""
    memory = mmap.mmap(fd, board_bytes(row_count, vocabulary_size, size))
    # The words come first: 8-byte numbers must lie at multiples of 8.
    words = torch.frombuffer(memory, dtype=torch.float64, count=size * row_count * _WORDS_A_ROW)
    rows = torch.frombuffer(memory, dtype=torch.float32, offset=words.nbytes, count=row_count * vocabulary_size)
    return SharedBoard(rows.view(row_count, vocabulary_size), words.view(size, -1), rank, fence)


_WORDS_A_ROW = 2 * MOST_CANDIDATES + 1


def _empty_words(row_count: int, size: int) -> Tensor:
    return torch.empty(size, row_count * _WORDS_A_ROW, dtype=torch.float64)
