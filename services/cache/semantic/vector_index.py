"""The nearest vectors of one partition, by usearch: a graph in memory, approximate, grown as entries come.

Vectors are kept in half precision, which moves a cosine by less than 0.001. All graphs share one thread, so that a
graph that grows never holds up the event loop and no graph meets two threads.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Any, Protocol

from meshkit.embedding.minilm import DIMENSIONS, Unavailable

_LINKS = 16
_EXPANSION_ADD = 64
_EXPANSION_SEARCH = 64
VECTOR_BYTES = DIMENSIONS * 2 + _LINKS * 2 * 4 * 2
"""Of one vector with its links, in usearch's accounts, rounded up."""


class VectorIndex(Protocol):
    """Unit vectors by number. `UsearchIndex` is real; tests have an exact one."""

    async def add(self, number: int, vector: Any) -> None: ...

    async def remove(self, number: int) -> None: ...

    async def nearest(self, vector: Any, count: int) -> list[tuple[int, float]]:
        """Numbers and cosines, the nearest first."""
        ...


class UsearchIndex:
    """One graph. `thread` runs one task at a time."""

    def __init__(self, thread: Executor) -> None:
        try:
            from usearch.index import Index
        except ImportError as error:
            raise Unavailable(f"the package {error.name} is not installed") from error
        self._thread = thread
        self._index: Any = Index(
            ndim=DIMENSIONS,
            metric="cos",
            dtype="f16",
            connectivity=_LINKS,
            expansion_add=_EXPANSION_ADD,
            expansion_search=_EXPANSION_SEARCH,
        )

    async def add(self, number: int, vector: Any) -> None:
        await self._run(lambda: self._index.add(number, vector, threads=1))

    async def remove(self, number: int) -> None:
        await self._run(lambda: self._index.remove(number, threads=1))

    async def nearest(self, vector: Any, count: int) -> list[tuple[int, float]]:
        return await self._run(lambda: self._search(vector, count))

    def _search(self, vector: Any, count: int) -> list[tuple[int, float]]:
        if not len(self._index):
            return []
        found = self._index.search(vector, count, threads=1)
        return [
            (int(number), 1.0 - float(distance)) for number, distance in zip(found.keys, found.distances, strict=True)
        ]

    async def _run(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
