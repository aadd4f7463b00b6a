"""Sequences in the order of a key that never changes: found, added and taken out without sorting anew."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import Any

from services.inference.engine.sequence import Sequence


class Line:
    """Keys must differ between sequences."""

    def __init__(self, key: Callable[[Sequence], Any]) -> None:
        self._key = key
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    @property
    def first(self) -> Sequence:
        return self._sequences[0]

    def add(self, sequence: Sequence) -> None:
        insort(self._sequences, sequence, key=self._key)

    def remove(self, sequence: Sequence) -> None:
        """The sequence must be in line."""
        index = bisect_left(self._sequences, self._key(sequence), key=self._key)
        assert self._sequences[index] is sequence
        del self._sequences[index]
