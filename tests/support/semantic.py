"""Doubles for look-up by meaning: a model whose vectors tests choose, an exact index, and what indexes must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from meshkit.embedding.minilm import DIMENSIONS, TooLong, Unavailable


class FakeModel:
    """Texts on a circle: two texts are as similar as the cosine of the difference of their angles, in radians."""

    def __init__(self, angles: Mapping[str, float] | None = None) -> None:
        self.angles = dict(angles or {})
        self.batches: list[list[str]] = []
        self.problem = ""

    def embed(self, texts: Sequence[str]) -> list[Any]:
        if self.problem:
            raise Unavailable(self.problem)
        self.batches.append(list(texts))
        return [TooLong("too long") if len(text) > 500 else self._vector(text) for text in texts]

    def _vector(self, text: str) -> Any:
        """Texts without an angle are unlike all others."""
        vector = np.zeros(DIMENSIONS, np.float32)
        if text in self.angles:
            vector[:2] = np.cos(self.angles[text]), np.sin(self.angles[text])
        else:
            vector[2 + hash(text) % (DIMENSIONS - 2)] = 1.0
        return vector


class ExactIndex:
    """Compares with every vector."""

    def __init__(self) -> None:
        self._vectors: dict[int, Any] = {}

    async def add(self, number: int, vector: Any) -> None:
        self._vectors[number] = vector

    async def remove(self, number: int) -> None:
        self._vectors.pop(number, None)

    async def nearest(self, vector: Any, count: int) -> list[tuple[int, float]]:
        found = [(number, float(stored @ vector)) for number, stored in self._vectors.items()]
        return sorted(found, key=lambda pair: -pair[1])[:count]


class IndexSuite:
    """Subclass with a fixture `index`, empty."""

    async def test_an_empty_index_has_no_nearest(self, index):
        assert await index.nearest(unit(0), 3) == []

    async def test_the_nearest_come_first_with_their_cosines(self, index):
        for number, angle in enumerate((0.0, 0.1, 0.5, 2.0)):
            await index.add(number, unit(angle))
        found = await index.nearest(unit(0.09), 3)
        assert [number for number, _ in found] == [1, 0, 2]
        assert [cosine for _, cosine in found] == [
            # Half precision.
            close(np.cos(0.01)),
            close(np.cos(0.09)),
            close(np.cos(0.41)),
        ]

    async def test_a_removed_vector_is_not_found_again(self, index):
        await index.add(1, unit(0))
        await index.add(2, unit(1))
        await index.remove(1)
        assert [number for number, _ in await index.nearest(unit(0), 3)] == [2]

    async def test_it_finds_nearly_all_true_neighbours_after_many_came_and_went(self, index):
        random = np.random.default_rng(7)
        vectors = random.normal(size=(600, DIMENSIONS)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        for number, vector in enumerate(vectors):
            await index.add(number, vector)
            if number >= 300:
                await index.remove(number - 300)
        kept = vectors[300:]
        hits = 0
        for query in vectors[:50]:
            truth = {300 + int(place) for place in np.argsort(-(kept @ query))[:10]}
            hits += len(truth & {number for number, _ in await index.nearest(query, 10)})
        assert hits >= 0.95 * 500


def unit(angle: float) -> Any:
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[:2] = np.cos(angle), np.sin(angle)
    return vector


def close(value: float) -> Any:
    import pytest

    return pytest.approx(float(value), abs=0.002)
