"""A table of words whose nearness tests choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from meshkit.embedding.minilm import Unavailable


class FakeWords:
    """Words apart from those of one group, which are as near as said."""

    def __init__(self, groups: Mapping[str, str] | None = None, *, nearness: float = 0.8, problem: str = "") -> None:
        self._groups = dict(groups or {})
        self._nearness = nearness
        self._problem = problem
        self._known: list[str] = [""] * 200

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        if self._problem:
            raise Unavailable(self._problem)
        return [[self._number(word.strip(".,?!").lower()) for word in text.split()] for text in texts]

    def cosines(self, some: Sequence[int], others: Sequence[int]) -> Any:
        return np.array([[self._cosine(one, other) for other in others] for one in some], np.float32)

    def rarity(self, ids: Sequence[int]) -> Any:
        return np.full(len(ids), 4.0)

    def _number(self, word: str) -> int:
        if word not in self._known:
            self._known.append(word)
        return self._known.index(word, 1 if word else 0)

    def _cosine(self, one: int, other: int) -> float:
        if one == other:
            return 1.0
        group = self._groups.get(self._known[one])
        return self._nearness if group and group == self._groups.get(self._known[other]) else 0.0
