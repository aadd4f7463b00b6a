"""Look-up by meaning, whole: embed, find the nearest, let the guards object, ask the error bound, remember for later.

A look-up that is not certain enough teaches the cache without anybody's help: the caller generates and commits, and
the new answer against the stored one labels the pair. All of it is in this process: another instance has its own index
and its own evidence, built from the commits that follow its own look-ups; the answers are shared through the tiers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from meshkit.clock import Clock
from meshkit.embedding.minilm import TooLong, Unavailable
from services.cache.semantic.batching import BatchedEmbedder, TooManyWaiting
from services.cache.semantic.equivalence import AnswerText
from services.cache.semantic.error_bound import Choice, Judged
from services.cache.semantic.guards import first_objection
from services.cache.semantic.learning import Learner, Missed
from services.cache.semantic.memory import ShortMemory
from services.cache.semantic.pairs import pair_of
from services.cache.semantic.partition import Neighbour, Partition, Partitions
from services.cache.semantic.question import Question
from services.cache.semantic.verdict import Decider, Verdict
from services.cache.semantic.words import Words
from services.cache.settings import SemanticSettings
from services.cache.tiered import Absent, Found

Fetch = Callable[[bytes], Awaitable[Found | Absent]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question that the exact look-up did not find."""

    key: bytes
    """Where its own answer will lie."""
    question: Question
    max_error_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A stored answer that may be given."""

    found: Found
    verdict: Verdict


@dataclass(slots=True, kw_only=True)
class _Given:
    """A hit, for those who find it wrong."""

    partition: bytes
    candidate: Neighbour
    judged: Judged
    is_blamed: bool = False


class MeaningLookup:
    """Look-up by meaning for all tenants; each only ever meets its own partitions."""

    def __init__(
        self, embedder: BatchedEmbedder, partitions: Partitions, settings: SemanticSettings, clock: Clock
    ) -> None:
        self._embedder = embedder
        self._partitions = partitions
        self._settings = settings
        items, lives_s = settings.max_remembered, settings.remembered_s
        self._missed: ShortMemory[Missed] = ShortMemory(clock, max_items=items, lives_s=lives_s)
        self._given: ShortMemory[_Given] = ShortMemory(clock, max_items=items, lives_s=lives_s)
        self._learner = Learner(embedder, partitions, self._missed, max_waiting=settings.max_waiting)

    async def run(self) -> None:
        """Embed and learn. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._embedder.run())
            tasks.create_task(self._learner.run())

    async def lookup(self, asked: Asked, fetch: Fetch) -> Served | Verdict:
        """A stored answer to a question that means the same, or why there is none. `fetch` reads the tiers."""
        if len(asked.question.text) > self._settings.max_question_chars:
            return Verdict(decided_by=Decider.NOT_COMPARABLE)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                vector = await self._embedder.embed(asked.question.text)
                return await self._compare(asked, vector, fetch)
        except (TooManyWaiting, TimeoutError):
            return Verdict(decided_by=Decider.OVERLOADED)
        except TooLong:
            return Verdict(decided_by=Decider.NOT_COMPARABLE)
        except Unavailable as problem:
            return Verdict(decided_by=Decider.UNAVAILABLE, detail=str(problem))

    def offer(self, key: bytes, said: Callable[[], AnswerText | None]) -> None:
        """An answer was committed under a key."""
        self._learner.offer(key, said)

    async def settled(self) -> None:
        """Return once all commits so far have been learnt from."""
        await self._learner.settled()

    def blame(self, key: bytes) -> bool:
        """The hit that the look-up with this key gave was wrong; False where no such hit is known. Counts once."""
        given = self._given.get(key)
        if given is None:
            return False
        if not given.is_blamed:
            given.is_blamed = True
            given.candidate.stored.group.count(is_right=False)
            partition = self._partitions.find(given.partition)
            if partition is not None:
                partition.bound.learn(given.judged, is_right=False)
        return True

    async def _compare(self, asked: Asked, vector: Any, fetch: Fetch) -> Served | Verdict:
        words = Words(asked.question.text)
        partition = self._partitions.find(asked.question.partition)
        near = await self._near(partition, vector)
        missed = Missed(partition=asked.question.partition, words=words, vector=vector, near=near)
        self._missed.put(asked.key, missed)
        if partition is None or not near:
            return Verdict(decided_by=Decider.NO_NEIGHBOUR)
        candidate, objection = await _first_allowed(words, near)
        if candidate is None:
            return Verdict(decided_by=objection, similarity=near[0].similarity)
        pair = pair_of(words, candidate, near, self._settings.least_similarity)
        judged = partition.bound.judge(pair, asked.max_error_rate)
        self._missed.put(asked.key, replace(missed, candidate=candidate, judged=judged))
        verdict = Verdict(
            decided_by=Decider.SAMPLE if judged.choice is Choice.SAMPLE else Decider.ERROR_BOUND,
            similarity=candidate.similarity,
            error_bound=judged.error_bound,
        )
        if judged.choice is not Choice.SERVE or self._was_blamed(asked.key, candidate):
            return verdict
        given = _Given(partition=asked.question.partition, candidate=candidate, judged=judged)
        return await self._serve(asked, partition, given, verdict, fetch)

    async def _serve(
        self, asked: Asked, partition: Partition, given: _Given, verdict: Verdict, fetch: Fetch
    ) -> Served | Verdict:
        found = await fetch(given.candidate.stored.key)
        if isinstance(found, Absent):
            await partition.drop(given.candidate.number)
            return replace(verdict, decided_by=Decider.EVICTED)
        partition.used(given.candidate.number)
        self._missed.take(asked.key)
        self._given.put(asked.key, given)
        return Served(found=found, verdict=verdict)

    async def _near(self, partition: Partition | None, vector: Any) -> list[Neighbour]:
        if partition is None:
            return []
        return await partition.nearest(vector, self._settings.neighbours, self._settings.least_similarity)

    def _was_blamed(self, key: bytes, candidate: Neighbour) -> bool:
        given = self._given.get(key)
        return given is not None and given.is_blamed and given.candidate.stored.group is candidate.stored.group


async def _first_allowed(words: Words, near: Sequence[Neighbour]) -> tuple[Neighbour | None, Decider]:
    """The nearest to which no guard objects, else the objection to the nearest. Gives way after each."""
    first = Decider.NO_NEIGHBOUR
    for position, neighbour in enumerate(near):
        objection = first_objection(words, neighbour.stored.words)
        if objection is None:
            return neighbour, Decider.ERROR_BOUND
        if position == 0:
            first = objection
        await asyncio.sleep(0)
    return None, first
