"""The life of a request, with an engine, a cache and a compressor in memory."""

from __future__ import annotations

import asyncio

import pytest

from meshkit.coalescing import Piece
from meshkit.errors import BackendDown, Conflict, Forbidden, InvalidRequest, NotBuilt, NotFound, NotReady, Overloaded
from services.router.catalogue import Model
from services.router.events import Accepted, CacheStatus, Compression, Finished, FinishReason, Migrated
from services.router.ports import Compressed, EngineStarted, Found, Lease
from services.router.question import Question
from services.router.relay import Relay, Taken
from tests.unit.router.fakes import Bench, FakeCache, FakeCompressor, FakeEngine, Hang, instance, question, words


def text_of(events: list[object]) -> str:
    return "".join(event.text for event in events if isinstance(event, Piece))


async def test_a_question_is_accepted_answered_and_billed() -> None:
    bench = Bench(FakeEngine([words("Hello", " world")]))
    events = await bench.ask()
    accepted, finished = events[0], events[-1]
    assert isinstance(accepted, Accepted) and accepted.cache_status is CacheStatus.BYPASS
    assert accepted.instance in {"a", "b"} and accepted.revision == "r1"
    assert text_of(events) == "Hello world"
    assert isinstance(finished, Finished) and finished.finish_reason is FinishReason.STOP
    assert (finished.cost.input, finished.cost.output, finished.cost.total) == (10, 4, 14)
    assert finished.timings.attempts == 1 and finished.timings.first_token_s is not None
    assert bench.engine.open_count == 0 and bench.journal.running_count == 0 and bench.admission.active_count == 0


async def test_the_same_question_again_is_a_hit_with_the_same_pieces_and_costs_nothing() -> None:
    bench = Bench(FakeEngine([words("a", "b")]), cache=FakeCache())
    first = await bench.ask()
    second = await bench.ask()
    assert isinstance(second[0], Accepted) and second[0].cache_status is CacheStatus.HIT
    assert text_of(second) == text_of(first) == "ab"
    finished = second[-1]
    assert isinstance(finished, Finished)
    assert (finished.cost.total, finished.cost.saved_by_cache, finished.cost.counterfactual) == (0, 14, 14)
    assert finished.timings.attempts == 0 and len(bench.engine.asked) == 1


async def test_an_answer_that_must_not_be_stored_is_not() -> None:
    cache = FakeCache()
    bench = Bench(FakeEngine([words("a")]), cache=cache)
    await bench.ask(stores_answer=False)
    await bench.ask(uses_cache=False)
    assert cache.answers == {}


async def test_an_answer_without_a_digest_is_not_stored() -> None:
    class NotStorable(FakeCache):
        async def look_up(
            self, question: Question, model: Model, *, regenerates: bool = False, lost: Lease | None = None
        ) -> Found:
            return Found()

    cache = NotStorable()
    events = await Bench(FakeEngine([words("a")]), cache=cache).ask()
    assert isinstance(events[0], Accepted) and events[0].cache_status is CacheStatus.BYPASS
    assert cache.answers == {}


async def test_compression_goes_to_the_engine_and_onto_the_bill() -> None:
    bench = Bench(FakeEngine([words("a")]), compressor=FakeCompressor())
    events = await bench.ask()
    finished = events[-1]
    assert bench.engine.payloads == ["short prompt"]
    assert isinstance(finished, Finished)
    assert finished.usage.compressed_from_tokens == 20
    assert finished.cost.saved_by_compression == 10
    assert finished.cost.counterfactual == finished.cost.total + 10


@pytest.mark.parametrize(
    "failure",
    [BackendDown("gone"), NotReady("soon"), Overloaded("full", retry_after_s=1), Forbidden("no"), NotBuilt("older")],
)
async def test_cache_and_compressor_that_fail_are_done_without(failure: Exception) -> None:
    bench = Bench(
        FakeEngine([words("a")]),
        cache=FakeCache(failure=failure),  # type: ignore[arg-type]
        compressor=FakeCompressor(failure=failure),  # type: ignore[arg-type]
    )
    events = await bench.ask()
    assert isinstance(events[0], Accepted) and events[0].cache_status is CacheStatus.UNAVAILABLE
    assert text_of(events) == "a" and bench.engine.payloads == ["the prompt"]
    assert sorted(bench.observer.passed) == ["cache", "compressor"]


async def test_a_failure_before_the_first_token_is_retried_on_another_instance() -> None:
    bench = Bench(FakeEngine([[BackendDown("gone")], words("a")]))
    events = await bench.ask()
    assert text_of(events) == "a"
    assert len(set(bench.engine.asked)) == 2
    assert bench.observer.retries == bench.engine.asked[:1]
    finished = events[-1]
    assert isinstance(finished, Finished) and finished.timings.attempts == 2


async def test_a_failure_after_acceptance_is_told_as_a_migration() -> None:
    started = EngineStarted(prompt_tokens=10, revision="r1")
    bench = Bench(FakeEngine([[started, BackendDown("gone")], words("a")]))
    events = await bench.ask()
    migrations = [event for event in events if isinstance(event, Migrated)]
    assert [(m.from_instance, m.to_instance) for m in migrations] == [tuple(bench.engine.asked)]
    assert sum(isinstance(event, Accepted) for event in events) == 1


async def test_a_failure_after_the_first_token_is_not_retried_and_says_how_many_were_sent() -> None:
    broken = [*words("a", "b")[:-1], BackendDown("rank 1 died")]
    bench = Bench(FakeEngine([broken, words("never")]))
    with pytest.raises(BackendDown, match="rank 1 died; 2 tokens had been sent"):
        await bench.ask()
    assert len(bench.engine.asked) == 1
    assert bench.admission.active_count == 0 and bench.engine.open_count == 0


async def test_attempts_are_bounded() -> None:
    bench = Bench(FakeEngine([[BackendDown("gone")]]), max_attempts=3)
    with pytest.raises(BackendDown):
        await bench.ask()
    assert len(bench.engine.asked) == 3


async def test_a_callers_own_mistake_is_neither_retried_nor_held_against_the_instance() -> None:
    bench = Bench(FakeEngine([[InvalidRequest("too long", field="prompt", limit="2048 tokens")]]))
    with pytest.raises(InvalidRequest):
        await bench.ask()
    assert len(bench.engine.asked) == 1
    assert not any(bench.picker.is_resting(i) for i in bench.instances)


async def test_cancel_finishes_the_stream_with_what_was_sent() -> None:
    bench = Bench(FakeEngine([[*words("a", "b")[:-1], Hang()]]))
    events: list[object] = []
    async for event in bench.answering.answer(question(arrived_at=bench.clock.now())):
        events.append(event)
        if isinstance(event, Piece) and text_of(events) == "ab":
            assert isinstance(events[0], Accepted)
            assert bench.journal.cancel("default", decision_id=events[0].decision_id)
    finished = events[-1]
    assert isinstance(finished, Finished) and finished.finish_reason is FinishReason.CANCELLED
    assert finished.usage.completion_tokens == 2
    assert bench.engine.open_count == 0


async def test_a_request_that_waits_for_its_place_is_cancelled_at_once() -> None:
    bench = Bench(FakeEngine([[*words("a")[:-1], Hang()]]), max_active=1)
    first = bench.answering.answer(question(arrived_at=bench.clock.now()))
    await anext(first)
    second = asyncio.create_task(bench.ask(idempotency_key="k"))
    await asyncio.sleep(0.01)
    assert bench.journal.cancel("default", idempotency_key="k")
    events = await asyncio.wait_for(second, 1)
    assert isinstance(events[0], Accepted) and isinstance(events[-1], Finished)
    assert events[-1].finish_reason is FinishReason.CANCELLED
    await first.aclose()
    assert bench.admission.active_count == 0 and bench.journal.running_count == 0


async def test_a_request_that_is_looked_up_is_cancelled_at_once() -> None:
    class FrozenCache(FakeCache):
        async def look_up(
            self, question: Question, model: Model, *, regenerates: bool = False, lost: Lease | None = None
        ) -> Found:
            await asyncio.Event().wait()
            raise AssertionError

    bench = Bench(FakeEngine([words("a")]), cache=FrozenCache(), compressor=FakeCompressor())
    asking = asyncio.create_task(bench.ask(idempotency_key="k"))
    await asyncio.sleep(0.01)
    assert bench.journal.cancel("default", idempotency_key="k")
    events = await asyncio.wait_for(asking, 1)
    assert isinstance(events[-1], Finished) and events[-1].finish_reason is FinishReason.CANCELLED
    assert bench.engine.asked == [] and bench.admission.active_count == 0


async def test_a_cancellation_before_the_first_step_of_the_work_settles_the_stream() -> None:
    bench = Bench(FakeEngine([[Hang()]]))
    with bench.journal.entry("default", "d", "") as running:
        running.cancel()
        relay = Relay(bench.attempts.events(bench.job()), clock=bench.clock, flush_interval_s=0)
        pump = asyncio.create_task(relay.pump())
        running.attach(pump)
        assert await asyncio.wait_for(relay.taken(), 1) == Taken()
        await pump
    assert relay.finish_reason is FinishReason.CANCELLED


async def test_echoed_text_counts_as_sent_so_that_a_retry_never_repeats_it() -> None:
    echoed = [EngineStarted(prompt_tokens=10, revision="r1"), Piece(text="the prompt"), BackendDown("gone")]
    bench = Bench(FakeEngine([echoed, words("never")]))
    with pytest.raises(BackendDown, match="0 tokens had been sent"):
        await bench.ask()
    assert len(bench.engine.asked) == 1


async def test_nothing_is_claimed_as_saved_on_a_guess() -> None:
    class Guessing(FakeCompressor):
        async def compress(self, question: Question, model: Model) -> Compressed:
            summary = Compression(original_tokens=20, compressed_tokens=10, is_estimate=True)
            return Compressed(payload="short prompt", summary=summary)

    finished = (await Bench(FakeEngine([words("a")]), compressor=Guessing()).ask())[-1]
    assert isinstance(finished, Finished)
    assert (finished.cost.saved_by_compression, finished.usage.compressed_from_tokens) == (0, 0)


async def test_the_callers_lifetime_goes_to_the_cache() -> None:
    cache = FakeCache()
    await Bench(FakeEngine([words("a")]), cache=cache).ask(answer_ttl_s=7.0)
    assert cache.ttls_s == [7.0]


async def test_nobody_cancels_another_tenants_request() -> None:
    bench = Bench(FakeEngine([[*words("a")[:-1], Hang()]]))
    events = bench.answering.answer(question(arrived_at=bench.clock.now()))
    accepted = await anext(events)
    assert isinstance(accepted, Accepted)
    assert not bench.journal.cancel("somebody else", decision_id=accepted.decision_id)
    await events.aclose()
    assert bench.engine.open_count == 0 and bench.journal.running_count == 0


async def test_a_dropped_stream_frees_everything() -> None:
    bench = Bench(FakeEngine([[*words("a")[:-1], Hang()]]))
    events = bench.answering.answer(question(arrived_at=bench.clock.now()))
    async for event in events:
        if isinstance(event, Piece):
            break
    await events.aclose()
    assert (bench.engine.open_count, bench.admission.active_count, bench.journal.running_count) == (0, 0, 0)
    assert all(bench.balancer.in_flight_count(i) == 0 for i in bench.instances)


async def test_an_engine_that_ends_without_finishing_is_a_failure() -> None:
    bench = Bench(FakeEngine([words("a")[:-1]]), max_attempts=1)
    with pytest.raises(BackendDown, match="without finishing"):
        await bench.ask()


async def test_unknown_models_and_instances_are_named() -> None:
    bench = Bench(FakeEngine([words("a")]))
    with pytest.raises(NotFound, match="nobody serves model 'big'; known: small"):
        await bench.ask(model="big")
    with pytest.raises(NotFound, match="nobody serves tier 'gold'; known: standard"):
        await bench.ask(tier="gold")
    with pytest.raises(InvalidRequest, match="route\\.pin"):
        await bench.ask(pinned_instance="z")


async def test_a_prompt_that_no_context_could_hold_is_refused_before_anybody_reads_it() -> None:
    bench = Bench(FakeEngine([words("a")]), cache=FakeCache(), compressor=FakeCompressor())
    with pytest.raises(InvalidRequest, match="2048 tokens"):
        await bench.ask(prompt_characters=1_000_000)
    assert bench.engine.asked == []


async def test_without_any_instance_the_caller_is_told_to_come_back() -> None:
    bench = Bench(FakeEngine([words("a")]), instances=())
    with pytest.raises(BackendDown, match="no inference instance"):
        await bench.ask()


async def test_a_pinned_request_goes_where_it_is_pinned() -> None:
    bench = Bench(FakeEngine([words("a")]), instances=tuple(instance(name) for name in "abcdef"))
    await bench.ask(pinned_instance="d")
    assert bench.engine.asked == ["d"]


async def test_two_requests_with_one_key_are_not_two_generations() -> None:
    bench = Bench(FakeEngine([[*words("a")[:-1], Hang()]]))
    first = bench.answering.answer(question(idempotency_key="k", arrived_at=bench.clock.now()))
    await anext(first)
    with pytest.raises(Conflict):
        await bench.ask(idempotency_key="k")
    await first.aclose()
    assert len(bench.engine.asked) == 1


async def test_a_full_router_refuses_at_once_and_serves_those_that_wait() -> None:
    bench = Bench(FakeEngine([[*words("a")[:-1], Hang()], words("b")]), max_active=1, max_waiting=1)
    first = bench.answering.answer(question(arrived_at=bench.clock.now()))
    await anext(first)
    second = asyncio.create_task(bench.ask())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await bench.ask()
    assert refused.value.retry_after_s > 0
    await first.aclose()
    assert text_of(await second) == "b"
    assert bench.admission.active_count == 0


async def test_an_answer_that_the_cache_can_not_take_is_still_an_answer() -> None:
    class FailingCommit(FakeCache):
        async def commit(self, digest: bytes, answer: object, ttl_s: float | None, lease: object = None) -> None:
            raise BackendDown("gone")

    bench = Bench(FakeEngine([words("a")]), cache=FailingCommit())
    events = await bench.ask()
    assert isinstance(events[-1], Finished)
    assert bench.observer.failed_commits == ["BACKEND_DOWN"]
