"""What a committed answer teaches: the label of the pair that its look-up was judged by, and a new stored question.

It happens after the commit was answered, one answer at a time; what does not fit the queue is not learnt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from meshkit.embedding.minilm import TooLong, Unavailable
from services.cache.semantic.batching import BatchedEmbedder, TooManyWaiting
from services.cache.semantic.equivalence import AnswerPrint, AnswerText, answer_print, same_answer
from services.cache.semantic.error_bound import Judged
from services.cache.semantic.memory import ShortMemory
from services.cache.semantic.partition import Neighbour, Partitions, Stored
from services.cache.semantic.words import Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """What a commit needs to learn from a look-up by meaning that gave nothing."""

    partition: bytes
    words: Words
    vector: Any
    near: Sequence[Neighbour] = ()
    candidate: Neighbour | None = None
    """The nearest to which no guard objected, with its judgement."""
    judged: Judged | None = None


class Learner:
    """Learns from commits. `run` must run for anything to be learnt."""

    def __init__(
        self, embedder: BatchedEmbedder, partitions: Partitions, missed: ShortMemory[Missed], *, max_waiting: int
    ) -> None:
        self._embedder = embedder
        self._partitions = partitions
        self._missed = missed
        self._waiting: asyncio.Queue[tuple[bytes, AnswerText]] = asyncio.Queue(max_waiting)

    def offer(self, key: bytes, said: Callable[[], AnswerText | None]) -> None:
        """An answer was committed under a key; `said` is called only if a look-up by meaning had asked for it."""
        if key in self._missed and not self._waiting.full():
            answer = said()
            if answer is not None:
                self._waiting.put_nowait((key, answer))

    async def run(self) -> None:
        """Learn from what was offered. Runs until cancelled."""
        while True:
            key, answer = await self._waiting.get()
            try:
                missed = self._missed.take(key)
                if missed is not None:
                    await self._learn(key, missed, answer)
            finally:
                self._waiting.task_done()

    async def settled(self) -> None:
        """Return once all that was offered so far has been learnt from."""
        await self._waiting.join()

    async def _learn(self, key: bytes, missed: Missed, answer: AnswerText) -> None:
        printed = await self._printed(answer)
        partition = self._partitions.open(missed.partition)
        if missed.candidate is not None and missed.judged is not None:
            is_right = same_answer(printed, missed.candidate.stored.answer)
            missed.candidate.stored.group.count(is_right)
            partition.bound.learn(missed.judged, is_right)
            if partition.bound.is_due:
                work = partition.bound.begin_update()
                partition.bound.adopt(await asyncio.get_running_loop().run_in_executor(None, work))
        twin = next((near.stored for near in missed.near if same_answer(printed, near.stored.answer)), None)
        group = twin.group if twin is not None else partition.new_group()
        await partition.put(Stored(key=key, words=missed.words, answer=printed, group=group), missed.vector)
        await self._partitions.trim()

    async def _printed(self, answer: AnswerText) -> AnswerPrint:
        """With a vector where one can be had; without one, only equal texts are the same answer."""
        printed = answer_print(answer)
        if not printed.text:
            return printed
        try:
            return replace(printed, vector=await self._embedder.embed(printed.text))
        except (TooManyWaiting, TooLong, Unavailable):
            return printed
