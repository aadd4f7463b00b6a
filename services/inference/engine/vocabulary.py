"""The output head, split by vocabulary: each rank scores its own slice, rank 0 reads all slices from shared memory.

AutoTP would split the head by input and all-reduce full-vocabulary logits (1 MB a row at 262k tokens); here each rank
multiplies its rows of the weight only, and one copy of its own columns is all that moves.

Legend: R rows of logits, V vocabulary, v this rank's slice of it.
"""

from __future__ import annotations

import mmap
import os

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


def make_board_fd(row_count: int, vocabulary_size: int) -> int:
    """Anonymous shared memory for one step's logits, inheritable by the other ranks."""
    fd = os.memfd_create("logits", 0)
    os.ftruncate(fd, row_count * vocabulary_size * 4)
    return fd


def open_board(fd: int, row_count: int, vocabulary_size: int) -> Tensor:
    """The shared logits [row_count, V], float32."""
    memory = mmap.mmap(fd, row_count * vocabulary_size * 4)
    return torch.frombuffer(memory, dtype=torch.float32).view(row_count, vocabulary_size)
