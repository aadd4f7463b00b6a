"""The stored questions of one frame of one tenant: which are nearest, which leave first, what was learnt of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.cache.semantic.equivalence import AnswerPrint
from services.cache.semantic.error_bound import ErrorBound
from services.cache.semantic.vector_index import VECTOR_BYTES, VectorIndex
from services.cache.semantic.words import Words

RECORD_BYTES = 1_024
"""Of the objects around one question, besides its texts and vectors."""


@dataclass(slots=True, kw_only=True)
class Group:
    """Stored questions that were found to have the same answer, and what became of pairs with one of them."""

    number: int
    right_count: int = 0
    wrong_count: int = 0

    def count(self, is_right: bool) -> None:
        if is_right:
            self.right_count += 1
        else:
            self.wrong_count += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A question whose answer was committed."""

    key: bytes
    """Where the answer lies in the tiers."""
    words: Words
    answer: AnswerPrint
    group: Group

    @property
    def size_bytes(self) -> int:
        vectors = VECTOR_BYTES + (0 if self.answer.vector is None else self.answer.vector.nbytes)
        return RECORD_BYTES + vectors + 2 * len(self.words.text) + 2 * len(self.answer.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A stored question near the one that is asked."""

    number: int
    similarity: float
    stored: Stored


class Partition:
    """At most `max_entries` questions, the least recently used out first."""

    def __init__(self, index: VectorIndex, bound: ErrorBound, *, max_entries: int) -> None:
        self.bound = bound
        self._entry_bytes = 0
        self._index = index
        self._max_entries = max_entries
        self._entries: OrderedDict[int, Stored] = OrderedDict()
        self._numbers: dict[bytes, int] = {}
        self._next_number = 0
        self._next_group = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Of questions and evidence."""
        return self._entry_bytes + self.bound.size_bytes

    async def nearest(self, vector: Any, count: int, least_similarity: float) -> list[Neighbour]:
        """The nearest stored questions, the nearest first."""
        return [
            Neighbour(number=number, similarity=similarity, stored=self._entries[number])
            for number, similarity in await self._index.nearest(vector, count)
            if number in self._entries and similarity >= least_similarity
        ]

    def used(self, number: int) -> None:
        """It served a hit: it leaves last."""
        if number in self._entries:
            self._entries.move_to_end(number)

    def new_group(self) -> Group:
        self._next_group += 1
        return Group(number=self._next_group)

    async def put(self, stored: Stored, vector: Any) -> None:
        """Keep a question; an older one under the same key is replaced."""
        await self.drop_key(stored.key)
        number, self._next_number = self._next_number, self._next_number + 1
        self._entries[number] = stored
        self._numbers[stored.key] = number
        self._entry_bytes += stored.size_bytes
        await self._index.add(number, vector)
        while len(self._entries) > self._max_entries:
            await self.drop_oldest()

    async def drop_key(self, key: bytes) -> None:
        number = self._numbers.get(key)
        if number is not None:
            await self.drop(number)

    async def drop_oldest(self) -> None:
        await self.drop(next(iter(self._entries)))

    async def drop(self, number: int) -> None:
        """Forget a question, such as one whose answer is gone."""
        stored = self._entries.pop(number, None)
        if stored is not None:
            self._numbers.pop(stored.key, None)
            self._entry_bytes -= stored.size_bytes
            await self._index.remove(number)


class Partitions:
    """All partitions of this process: so many, and so many bytes; the least recently used leaves first, whole."""

    def __init__(self, make: Callable[[], Partition], *, max_partitions: int, budget_bytes: int) -> None:
        self._make = make
        self._max_partitions = max_partitions
        self._budget_bytes = budget_bytes
        self._held: OrderedDict[bytes, Partition] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def entry_count(self) -> int:
        return sum(map(len, self._held.values()))

    @property
    def size_bytes(self) -> int:
        return sum(partition.size_bytes for partition in self._held.values())

    def find(self, name: bytes) -> Partition | None:
        """A partition that exists; it then is the most recently used."""
        partition = self._held.get(name)
        if partition is not None:
            self._held.move_to_end(name)
        return partition

    def open(self, name: bytes) -> Partition:
        """The partition, made where there is none."""
        partition = self.find(name)
        if partition is None:
            partition = self._held[name] = self._make()
        return partition

    async def trim(self) -> None:
        """Keep to the limits: other partitions leave first, then the oldest questions of the last one."""
        while len(self._held) > 1 and (len(self._held) > self._max_partitions or self._is_over_budget):
            self._held.popitem(last=False)
        for last in self._held.values():
            while len(last) and self._is_over_budget:
                await last.drop_oldest()

    @property
    def _is_over_budget(self) -> bool:
        return self.size_bytes > self._budget_bytes
