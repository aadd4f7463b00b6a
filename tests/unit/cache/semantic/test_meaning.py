"""Look-up by meaning as a whole, with vectors that the tests choose: what is served, learnt, forgotten and refused."""

import asyncio
import contextlib

import pytest

from meshkit.testing.clock import FakeClock
from services.cache.entry import Finish
from services.cache.lifetime import Lifetimes, TierLifetime
from services.cache.memory_tier import MemoryTier
from services.cache.response_cache import Answer, Caller, Mode, Query, ResponseCache, Scope
from services.cache.semantic.batching import BatchedEmbedder
from services.cache.semantic.by_meaning import ByMeaning
from services.cache.semantic.equivalence import AnswerText
from services.cache.semantic.error_bound import ErrorBound
from services.cache.semantic.meaning import MeaningLookup
from services.cache.semantic.partition import Partition, Partitions
from services.cache.semantic.verdict import Decider
from services.cache.settings import EntrySettings, SemanticSettings, TenantSemanticSettings
from services.cache.tiered import Absent, Found, Level, TieredStore, TierName
from tests.support.flight_stores import own_flights
from tests.support.semantic import ExactIndex, FakeModel

ANN = Caller(tenant="t1", principal="ann")
EVE = Caller(tenant="t2", principal="ann")
TAUGHT = 400


class Cache:
    """A cache with look-up by meaning over fake vectors."""

    def __init__(self, **changes) -> None:
        self.clock = FakeClock()
        self.model = FakeModel()
        self.settings = SemanticSettings(window_s=0.0, **changes)
        self.draw = 0.5
        tier = MemoryTier(budget_bytes=10_000_000, lifetime=TierLifetime(ttl_s=10_000), clock=self.clock)
        store = TieredStore([Level(name=TierName.L1, store=tier)], self.clock)
        self.partitions = Partitions(
            lambda: Partition(ExactIndex(), ErrorBound(lambda: self.draw), max_entries=self.settings.max_entries),
            max_partitions=self.settings.max_partitions,
            budget_bytes=self.settings.budget_bytes,
        )
        embedder = BatchedEmbedder(self.model, window_s=0.0, max_batch=16, max_waiting=64)
        self.meaning = MeaningLookup(embedder, self.partitions, self.settings, self.clock)
        self.cache = ResponseCache(
            store,
            own_flights(self.clock),
            limits=EntrySettings(),
            lifetimes=Lifetimes(default_s=5_000, longest_s=10_000, jitter=0, random=lambda: 0.0),
            clock=self.clock,
            by_meaning=ByMeaning(self.meaning, self.settings),
        )

    async def look_up(self, text, caller=ANN, mode=Mode.SEMANTIC, system="Be brief.", **query):
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        request = {"prompt": {"messages": {"messages": messages}}, "model": "m", "sampling": {"temperature": 0.0}}
        return await self.cache.lookup(caller, Query(request=request, mode=mode, **query))

    async def commit(self, digest, text, caller=ANN, ttl_s=None):
        answer = Answer(payload=text.encode(), finish=Finish.STOP, ttl_s=ttl_s, said=lambda: AnswerText(text=text))
        assert await self.cache.commit(caller, digest, answer) == ""
        await self.meaning.settled()

    async def ask(self, text, answer, caller=ANN, **query):
        """Look up, and commit where there is nothing; returns what was looked up."""
        looked = await self.look_up(text, caller, **query)
        if isinstance(looked.result, Absent):
            await self.commit(looked.digest, answer, caller)
        return looked

    async def teach(self, caller=ANN, accepted=0.0, **query):
        """Hundreds of pairs that share their answer, near each other; at no accepted error each is generated."""
        for number in range(TAUGHT):
            self.model.angles[f"word {'abcdefgh'[number % 8]} {'x' * (number // 8 + 1)}"] = number % 8 + number * 1e-4
        for text, angle in self.model.angles.items():
            await self.ask(text, f"answer {int(angle + 0.05)}", caller, max_error_rate=accepted, **query)


@pytest.fixture
async def cache():
    async with running(Cache()) as made:
        yield made


@contextlib.asynccontextmanager
async def running(cache):
    task = asyncio.create_task(cache.meaning.run())
    try:
        yield cache
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_cold_cache_serves_nothing_by_meaning_and_says_why(cache):
    cache.model.angles = {"first of all": 0.0, "first of them": 0.05}
    assert (await cache.ask("first of all", "yes")).verdict.decided_by is Decider.NO_NEIGHBOUR
    looked = await cache.look_up("first of them")
    assert isinstance(looked.result, Absent)
    assert looked.verdict.decided_by is Decider.ERROR_BOUND
    assert looked.verdict.similarity == pytest.approx(0.9988, abs=1e-3)
    assert looked.verdict.error_bound > 0.01


async def test_a_taught_cache_serves_a_question_that_means_the_same(cache):
    await cache.teach()
    cache.model.angles["word c again"] = 2.0
    looked = await cache.look_up("word c again", max_error_rate=0.05)
    assert isinstance(looked.result, Found)
    assert looked.result.entry.payload == b"answer 2"
    assert looked.verdict.decided_by is Decider.ERROR_BOUND
    assert looked.verdict.error_bound <= 0.05


async def test_an_exact_match_is_found_before_any_meaning(cache):
    await cache.ask("hello there", "hi")
    looked = await cache.look_up("hello there")
    assert isinstance(looked.result, Found)
    assert looked.verdict is None


async def test_a_guard_overrules_all_that_was_learnt(cache):
    await cache.teach()
    cache.model.angles["not word c"] = 2.0
    looked = await cache.look_up("not word c", max_error_rate=0.05)
    assert isinstance(looked.result, Absent)
    assert looked.verdict.decided_by is Decider.GUARD_POLARITY


async def test_who_asks_for_an_exact_look_up_never_gets_another_one(cache):
    await cache.teach()
    cache.model.angles["word c again"] = 2.0
    for mode in (Mode.EXACT, Mode.DEFAULT):
        looked = await cache.look_up("word c again", mode=mode, max_error_rate=0.05)
        assert isinstance(looked.result, Absent)
        assert looked.verdict is None


async def test_a_tenants_policy_turns_it_on_and_caps_the_error():
    policy = TenantSemanticSettings(always=True, max_error_rate=0.02)
    async with running(Cache(tenants={"t1": policy})) as cache:
        await cache.teach()
        cache.model.angles["word c again"] = 2.0
        looked = await cache.look_up("word c again", mode=Mode.DEFAULT, max_error_rate=0.5)
        assert isinstance(looked.result, Found)
        assert looked.verdict.error_bound <= 0.02
        assert cache.settings.error_rate("t1", 0.5) == 0.02
        assert cache.settings.error_rate("t2", None) == 0.01


@pytest.mark.parametrize(
    "other",
    [{"caller": EVE}, {"system": "Be long."}, {"scope": Scope.PRINCIPAL}],
)
async def test_neither_answers_nor_evidence_cross_to_another_tenant_prompt_or_scope(cache, other):
    await cache.teach()
    cache.model.angles["word c again"] = 2.0
    looked = await cache.look_up("word c again", max_error_rate=0.05, **other)
    assert isinstance(looked.result, Absent)
    assert looked.verdict.decided_by is Decider.NO_NEIGHBOUR


async def test_a_stored_question_whose_answer_is_gone_is_dropped_on_sight(cache):
    await cache.teach()
    await cache.clock.advance(6_000)
    cache.model.angles["word c again"] = 2.0
    before = cache.partitions.entry_count
    looked = await cache.look_up("word c again", max_error_rate=0.05)
    assert isinstance(looked.result, Absent)
    assert looked.verdict.decided_by is Decider.EVICTED
    assert cache.partitions.entry_count == before - 1


async def test_a_sampled_hit_is_generated_again(cache):
    await cache.teach()
    cache.draw = 0.0
    cache.model.angles["word c again"] = 2.0
    looked = await cache.look_up("word c again", max_error_rate=0.05)
    assert isinstance(looked.result, Absent)
    assert looked.verdict.decided_by is Decider.SAMPLE


async def test_a_reported_hit_is_not_served_again_to_the_same_question(cache):
    await cache.teach()
    cache.model.angles["word c again"] = 2.0
    digest = (await cache.look_up("word c again", max_error_rate=0.05)).digest
    assert not cache.cache.blame(EVE, digest)
    assert cache.cache.blame(ANN, digest)
    assert cache.cache.blame(ANN, digest)
    assert isinstance((await cache.look_up("word c again", max_error_rate=0.05)).result, Absent)


async def test_a_report_counts_once_however_often_it_comes(cache):
    await cache.teach()
    cache.model.angles["word c again"] = 2.0
    cache.model.angles["word c once more"] = 2.0
    digest = (await cache.look_up("word c again", max_error_rate=0.05)).digest
    cache.cache.blame(ANN, digest)
    once = (await cache.look_up("word c once more", max_error_rate=0.0)).verdict.error_bound
    for _ in range(50):
        assert cache.cache.blame(ANN, digest)
    assert (await cache.look_up("word c once more", max_error_rate=0.0)).verdict.error_bound == once


async def test_a_report_of_an_unknown_hit_says_so(cache):
    looked = await cache.ask("hello there", "hi")
    assert not cache.cache.blame(ANN, looked.digest)


async def test_a_request_without_a_question_is_not_compared(cache):
    looked = await cache.cache.lookup(
        ANN, Query(request={"prompt": {"token_ids": {"ids": [1]}}, "model": "m"}, mode=Mode.SEMANTIC)
    )
    assert looked.verdict.decided_by is Decider.NOT_COMPARABLE
    assert (await cache.look_up("x" * 600)).verdict.decided_by is Decider.NOT_COMPARABLE
    assert (await cache.look_up("x" * 5_000)).verdict.decided_by is Decider.NOT_COMPARABLE


async def test_without_the_packages_exact_caching_goes_on_and_the_reply_names_what_is_missing(cache):
    cache.model.problem = "the package onnxruntime is not installed"
    looked = await cache.ask("hello there", "hi")
    assert looked.verdict.decided_by is Decider.UNAVAILABLE
    assert looked.verdict.detail == "the package onnxruntime is not installed"
    assert isinstance((await cache.look_up("hello there")).result, Found)


async def test_switched_off_it_says_so():
    cache = Cache()
    cache.cache = ResponseCache(
        cache.cache._store,
        own_flights(cache.clock),
        limits=EntrySettings(),
        lifetimes=Lifetimes(default_s=10, longest_s=10, jitter=0, random=lambda: 0.0),
        clock=cache.clock,
    )
    assert (await cache.look_up("hello there")).verdict.decided_by is Decider.UNAVAILABLE


async def test_partitions_and_entries_stay_within_their_limits():
    async with running(Cache(max_entries=5, max_partitions=2)) as cache:
        for number in range(12):
            cache.model.angles[f"text {'x' * number}"] = number / 2
            await cache.ask(f"text {'x' * number}", "a")
        assert cache.partitions.entry_count == 5
        for system in ("one", "two", "three"):
            await cache.ask("hello", "hi", system=system)
        assert len(cache.partitions) == 2


async def test_bytes_are_counted_and_kept_to():
    async with running(Cache(budget_bytes=20_000)) as cache:
        for system in range(6):
            for number in range(3):
                cache.model.angles[f"text {'x' * number}"] = number / 2
                await cache.ask(f"text {'x' * number}", "a", system=f"{system}")
                assert 0 < cache.partitions.size_bytes <= 20_000
        for number in range(40):
            await cache.ask(f"text {'x' * number}", "a")
        assert len(cache.partitions) == 1
        assert 5_000 < cache.partitions.size_bytes <= 20_000
