"""Stale answers are given at once and made anew behind the caller, once, and only where there is room."""

from __future__ import annotations

import asyncio

import pytest

from meshkit.coalescing import Piece
from meshkit.errors import BackendDown
from meshkit.testing.clock import FakeClock
from services.router.events import Accepted, CacheStatus
from services.router.observer import Regenerated
from services.router.regenerations import LEAST_PRIORITY, REST_AFTER_FAILURE_S
from tests.unit.router.fakes import Bench, FakeCache, FakeCompressor, FakeEngine, Hang, words

PATIENCE_S = 10.0


def text_of(events: list[object]) -> str:
    return "".join(event.text for event in events if isinstance(event, Piece))


async def until(holds) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0)


async def a_bench(*scripts, **parts) -> Bench:
    """With one answer in the cache, `old`, whose time is over."""
    bench = Bench(FakeEngine([words("old"), *scripts]), cache=FakeCache(), **parts)
    await bench.ask()
    bench.cache.is_stale = True
    return bench


async def test_a_stale_answer_comes_at_once_and_says_so_while_it_is_made_anew() -> None:
    bench = await a_bench([*words("new")[:-1], Hang()])
    events = await bench.ask()
    accepted = events[0]
    assert isinstance(accepted, Accepted) and accepted.cache_status is CacheStatus.HIT and accepted.is_stale
    assert text_of(events) == "old"
    await until(lambda: len(bench.engine.asked) == 2)
    await bench.regenerations.close()


async def test_after_the_regeneration_the_new_answer_is_given_and_is_not_stale() -> None:
    bench = await a_bench(words("new"))
    await bench.ask()
    await until(lambda: bench.observer.regenerations)
    events = await bench.ask()
    assert bench.observer.regenerations == [Regenerated.DONE]
    assert text_of(events) == "new"
    assert isinstance(events[0], Accepted) and not events[0].is_stale
    assert bench.admission.active_count == 0 and bench.journal.running_count == 0


async def test_of_many_that_get_the_stale_answer_one_makes_it_anew() -> None:
    bench = await a_bench([*words("new")[:-1], Hang()], max_active=200)
    answers = await asyncio.gather(*(bench.ask() for _ in range(100)))
    assert {text_of(events) for events in answers} == {"old"}
    await until(lambda: len(bench.engine.asked) == 2)
    assert bench.observer.regenerations == []
    await bench.regenerations.close()
    assert len(bench.engine.asked) == 2


async def test_a_regeneration_is_the_tenants_own_request_with_least_priority_and_its_own_decision_and_bill() -> None:
    bench = await a_bench(words("new", "er"))
    events = await bench.ask(priority=5, idempotency_key="k", labels={"team": "a"})
    await until(lambda: bench.observer.regenerations)
    question, accepted, finished = bench.observer.answered[-1]
    assert accepted.cache_status is CacheStatus.REGENERATION
    assert isinstance(events[0], Accepted) and accepted.decision_id != events[0].decision_id
    assert question.priority == LEAST_PRIORITY and question.idempotency_key == ""
    assert question.trace_id == finished.trace_id == "a trace of its own"
    assert (question.tenant, question.labels) == ("default", {"team": "a"})
    assert finished.cost.total == 14


async def test_a_regeneration_that_fails_leaves_the_stale_answer_and_gives_its_lease_back() -> None:
    bench = await a_bench([*words("half")[:-1], BackendDown("gone")])
    await bench.ask()
    await until(lambda: bench.observer.regenerations)
    await bench.commits.drain()
    assert bench.observer.regenerations == [Regenerated.FAILED]
    assert len(bench.cache.given_back) == 1
    assert text_of(await bench.ask()) == "old"


async def test_after_a_failure_this_router_makes_nothing_anew_for_a_moment() -> None:
    clock = FakeClock()
    bench = await a_bench([*words("half")[:-1], BackendDown("gone")], words("new"), clock=clock)
    await bench.ask()
    await until(lambda: bench.observer.regenerations)
    await bench.commits.drain()
    assert not bench.regenerations.has_room
    await bench.ask()
    assert len(bench.engine.asked) == 2
    await clock.advance(REST_AFTER_FAILURE_S)
    await bench.ask()
    await until(lambda: bench.observer.regenerations[-1] is Regenerated.DONE)
    assert text_of(await bench.ask()) == "new"


@pytest.mark.parametrize("limits", [{"max_regenerations": 0}, {"max_active": 1}], ids=["switched off", "no free place"])
async def test_where_there_is_no_room_the_stale_answer_is_given_and_no_lease_is_asked_for(limits) -> None:
    bench = await a_bench(words("new"), **limits)
    assert text_of(await bench.ask()) == "old"
    assert len(bench.engine.asked) == 1 and bench.cache.flights == {}


async def test_room_that_was_lost_since_the_look_up_gives_the_lease_back() -> None:
    bench = await a_bench(words("new"), max_active=2)
    look_up = bench.cache.look_up
    taken = bench.admission.spare_place()

    async def slow_look_up(question, model, *, regenerates=False):
        found = await look_up(question, model, regenerates=regenerates)
        taken.__enter__()
        return found

    bench.cache.look_up = slow_look_up
    assert text_of(await bench.ask()) == "old"
    await bench.commits.drain()
    assert bench.observer.regenerations == [Regenerated.REFUSED] and len(bench.cache.given_back) == 1
    assert len(bench.engine.asked) == 1


async def test_no_more_than_the_set_number_are_made_anew_at_once() -> None:
    bench = Bench(FakeEngine([words("old")]), cache=FakeCache(), max_regenerations=2)
    payloads = [f"question {number}" for number in range(5)]
    for payload in payloads:
        await bench.ask(payload=payload)
    bench.cache.is_stale = True
    bench.engine.scripts = [[*words("new")[:-1], Hang()]]
    for payload in payloads:
        await bench.ask(payload=payload)
    await until(lambda: len(bench.engine.asked) == 7)
    assert bench.engine.open_count == 2
    await bench.regenerations.close()
    assert len(bench.engine.asked) == 7


async def test_a_shutdown_ends_regenerations_and_gives_their_leases_back() -> None:
    bench = await a_bench([*words("new")[:-1], Hang()])
    await bench.ask()
    await until(lambda: bench.engine.open_count == 1)
    async with asyncio.timeout(PATIENCE_S):
        await bench.regenerations.close()
        await bench.commits.drain()
    assert bench.engine.open_count == 0 and len(bench.cache.given_back) == 1
    await bench.ask()
    assert len(bench.engine.asked) == 2


async def test_a_regeneration_is_compressed_like_the_request_it_replaces() -> None:
    bench = await a_bench(words("new"), compressor=FakeCompressor())
    await bench.ask()
    await until(lambda: bench.observer.regenerations)
    assert bench.engine.payloads == ["short prompt", "short prompt"]
