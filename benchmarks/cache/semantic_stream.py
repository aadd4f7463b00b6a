"""A stream of questions through the cache as it runs, and through a fixed cosine threshold, which it is measured by.

Each question is looked up by meaning. On a miss its answer is committed, which is all that the cache ever learns from;
nobody tells it of a wrong hit. Exact doubles are left out of the streams.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cache.semantic_data import Query
from meshkit.clock import Clock, SystemClock
from meshkit.embedding.minilm import MiniLm
from services.cache.entry import Finish
from services.cache.flight import FlightTimes
from services.cache.lifetime import Lifetimes, TierLifetime
from services.cache.memory_flights import MemoryFlights
from services.cache.memory_tier import MemoryTier
from services.cache.response_cache import Answer, Caller, Mode, ResponseCache
from services.cache.response_cache import Query as CacheQuery
from services.cache.semantic.build import build_meaning
from services.cache.semantic.by_meaning import ByMeaning
from services.cache.semantic.equivalence import AnswerText
from services.cache.settings import EntrySettings, SemanticSettings
from services.cache.single_flight import SingleFlight
from services.cache.tiered import Found, Level, TieredStore, TierName

CALLER = Caller(tenant="benchmark", principal="")
NEAREST_KEPT = 64
BATCH = 32


class KnownVectors:
    """The real model's vectors, made once: what is measured here is decisions, not their speed."""

    def __init__(self) -> None:
        self._model = MiniLm()
        self._known: dict[str, Any] = {}

    def make(self, texts: Sequence[str]) -> None:
        """Embed what is not known yet, similar lengths together."""
        missing = sorted(set(texts) - self._known.keys(), key=len)
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            self._known.update(zip(batch, self._model.embed(batch), strict=True))

    def embed(self, texts: Sequence[str]) -> list[Any]:
        self.make(texts)
        return [self._known[text] for text in texts]


@dataclass(slots=True)
class Outcome:
    """What became of the look-ups."""

    lookup_count: int = 0
    hit_count: int = 0
    wrong_count: int = 0
    deciders: dict[str, int] = field(default_factory=dict)

    @property
    def hit_ratio(self) -> float:
        return self.hit_count / max(1, self.lookup_count)

    @property
    def false_hit_rate(self) -> float:
        return self.wrong_count / max(1, self.hit_count)

    @property
    def told_deciders(self) -> str:
        """The commonest deciders."""
        common = sorted(self.deciders.items(), key=lambda pair: -pair[1])[:4]
        return ", ".join(f"{name.lower()} {count}" for name, count in common)

    def merge(self, other: Outcome) -> None:
        self.lookup_count += other.lookup_count
        self.hit_count += other.hit_count
        self.wrong_count += other.wrong_count
        for name, count in other.deciders.items():
            self.deciders[name] = self.deciders.get(name, 0) + count

    def count(self, query: Query, given: str | None) -> None:
        """`given` is the answer of a hit, None for a miss."""
        self.lookup_count += 1
        if given is not None:
            self.hit_count += 1
            self.wrong_count += given != query.answer


class Stream:
    """One cache, and the questions that it meets."""

    def __init__(self, vectors: KnownVectors, *, seed: int) -> None:
        clock = SystemClock()
        settings = SemanticSettings(window_s=0.0, timeout_s=60.0, max_entries=100_000, max_error_rate=1.0)
        self._meaning = build_meaning(settings, clock, vectors, random.Random(seed).random)
        store = TieredStore(
            [
                Level(
                    name=TierName.L1,
                    store=MemoryTier(budget_bytes=2**30, lifetime=TierLifetime(ttl_s=86_400), clock=clock),
                )
            ],
            clock,
        )
        self._cache = ResponseCache(
            store,
            _flights(clock),
            limits=EntrySettings(),
            lifetimes=Lifetimes(default_s=86_400, longest_s=86_400, jitter=0, random=random.random),
            clock=clock,
            by_meaning=ByMeaning(self._meaning, settings),
        )

    async def ask(self, *parts: Sequence[Query], max_error_rate: float) -> list[Outcome]:
        """One question after the other, each learnt from before the next; the outcome of each part. Once only."""
        running = asyncio.create_task(self._meaning.run())
        try:
            return [await self._part(queries, max_error_rate) for queries in parts]
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _part(self, queries: Sequence[Query], max_error_rate: float) -> Outcome:
        outcome = Outcome()
        for query in queries:
            outcome.count(query, await self._one(query, max_error_rate, outcome))
        return outcome

    async def _one(self, query: Query, max_error_rate: float, outcome: Outcome) -> str | None:
        request = {"prompt": {"text": query.text}, "model": "m", "sampling": {"temperature": 0.0}}
        asked = CacheQuery(request=request, mode=Mode.SEMANTIC, max_error_rate=max_error_rate)
        looked = await self._cache.lookup(CALLER, asked)
        if looked.verdict is not None:
            name = looked.verdict.decided_by.name
            outcome.deciders[name] = outcome.deciders.get(name, 0) + 1
        if isinstance(looked.result, Found):
            return looked.result.entry.payload.decode()
        said = AnswerText(text=query.answer)
        answer = Answer(payload=query.answer.encode(), finish=Finish.STOP, said=lambda: said)
        await self._cache.commit(CALLER, looked.digest, answer)
        await self._meaning.settled()
        return None


def _flights(clock: Clock) -> SingleFlight:
    times = FlightTimes()
    return SingleFlight(
        shared=None, local=MemoryFlights(times, clock, max_bytes=2**20), times=times, clock=clock, poll_s=0.01
    )


class FixedThreshold:
    """What a cosine threshold would have done on a stream: misses are stored, hits are not."""

    def __init__(self, queries: Sequence[Query], vectors: KnownVectors) -> None:
        import numpy as np

        self._queries = queries
        matrix = np.stack(vectors.embed([query.text for query in queries])).astype(np.float32)
        self._nearest: list[tuple[Any, Any]] = []
        for start in range(0, len(queries), 512):
            stop = min(start + 512, len(queries))
            similarities = matrix[start:stop] @ matrix[:stop].T
            for row in range(start, stop):
                mine = similarities[row - start, :row]
                best = np.argpartition(-mine, NEAREST_KEPT)[:NEAREST_KEPT] if row > NEAREST_KEPT else np.arange(row)
                best = best[np.argsort(-mine[best])]
                self._nearest.append((best.tolist(), mine[best].tolist()))

    def run(self, threshold: float) -> Outcome:
        outcome = Outcome()
        is_stored: list[bool] = []
        for query, (places, similarities) in zip(self._queries, self._nearest, strict=True):
            near = next(((p, s) for p, s in zip(places, similarities, strict=True) if is_stored[p]), (0, -1.0))
            is_hit = near[1] >= threshold
            is_stored.append(not is_hit)
            outcome.count(query, self._queries[near[0]].answer if is_hit else None)
        return outcome

    def tuned(self, max_false_hit_rate: float) -> tuple[float, Outcome]:
        """The threshold with the most hits among those that keep to the rate, in hindsight."""
        runs = [(step / 1000, self.run(step / 1000)) for step in range(700, 1000, 5)]
        kept = [(threshold, run) for threshold, run in runs if run.false_hit_rate <= max_false_hit_rate]
        return max(kept, key=lambda pair: pair[1].hit_count, default=runs[-1])
