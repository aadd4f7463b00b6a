"""Requests that ask the same at once: one generates, the others follow, and nobody loses or repeats a piece."""

from __future__ import annotations

import asyncio

import pytest

from meshkit.coalescing import Piece
from meshkit.errors import BackendDown, Conflict, NotFound
from services.router.events import Accepted, CacheStatus, Finished, FinishReason
from services.router.ports import EngineEvent
from services.router.resuming import SentAnswer
from tests.unit.router.fakes import Bench, FakeCache, FakeCompressor, FakeEngine, Hang, words

PATIENCE_S = 10.0


def text_of(events: list[object]) -> str:
    return "".join(event.text for event in events if isinstance(event, Piece))


def said(*texts: str) -> list[EngineEvent | BackendDown | Hang]:
    """The beginning of an answer, and then silence."""
    return [*words(*texts)[:-1], Hang()]


async def collect(bench: Bench, events: list[object]) -> None:
    async for event in bench.answering.answer(bench.job().question):
        events.append(event)  # noqa: PERF401 -- read while it grows


async def until(holds) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0)


def a_bench(*scripts, **parts) -> Bench:
    cache = FakeCache(shares_generation=True)
    return Bench(FakeEngine(list(scripts)), cache=cache, max_active=600, max_waiting=600, **parts)


async def test_of_many_that_ask_the_same_at_once_one_generates_and_all_get_the_answer() -> None:
    bench = a_bench(words("a", "b", "c"))
    async with asyncio.timeout(PATIENCE_S):
        answers = await asyncio.gather(*(bench.ask() for _ in range(500)))
    assert len(bench.engine.asked) == 1
    assert {text_of(events) for events in answers} == {"abc"}
    statuses = [events[0].cache_status for events in answers if isinstance(events[0], Accepted)]
    assert statuses.count(CacheStatus.LEAD) == 1 and statuses.count(CacheStatus.FOLLOW) == 499


async def test_only_the_leader_pays_and_followers_save_what_it_paid() -> None:
    bench = a_bench(words("a", "b"))
    leader, follower = await asyncio.gather(bench.ask(), bench.ask())
    paid, saved = leader[-1], follower[-1]
    assert isinstance(paid, Finished) and isinstance(saved, Finished)
    assert paid.cost.total == 14 and paid.cost.saved_by_cache == 0
    assert (saved.cost.total, saved.cost.saved_by_cache, saved.cost.counterfactual) == (0, 14, 14)
    assert saved.usage == paid.usage and saved.finish_reason is FinishReason.STOP
    assert saved.timings.attempts == 0 and saved.timings.prefill_s is None


async def test_a_follower_gets_pieces_while_the_leader_still_generates() -> None:
    bench = a_bench(said("a", "b"))
    leading = asyncio.create_task(bench.ask())
    await until(lambda: bench.cache.flights)
    events = bench.answering.answer(bench.job().question)
    first = [await anext(events), await anext(events)]
    assert isinstance(first[1], Piece) and not leading.done()
    await events.aclose()
    leading.cancel()
    await asyncio.wait({leading})


async def test_when_the_leaders_caller_goes_away_a_follower_goes_on_where_it_stopped() -> None:
    bench = a_bench(said("Hel", "lo"), words("Hel", "lo", " world"))
    leading = asyncio.create_task(bench.ask())
    await until(lambda: bench.cache.flights)
    answers: list[list[object]] = [[] for _ in range(5)]
    following = [asyncio.create_task(collect(bench, answer)) for answer in answers]
    (flight,) = bench.cache.flights.values()
    await until(lambda: [text_of(answer) for answer in answers] == ["Hello"] * 5)
    assert flight.follower_count == 1, "all followers of a router read the cache once"
    leading.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*following)
    assert len(bench.engine.asked) == 2
    assert [text_of(events) for events in answers] == ["Hello world"] * 5
    totals = sorted(events[-1].cost.total for events in answers if isinstance(events[-1], Finished))
    assert totals == [0, 0, 0, 0, 16], "who took over pays for what it generated"
    (stored,) = bench.cache.answers.values()
    assert "".join(piece.text for _, piece in stored.pieces) == "Hello world"


async def test_an_engine_that_fails_under_the_leader_fails_no_follower() -> None:
    bench = a_bench([*words("Hel")[:-1], BackendDown("gone")], words("Hel", "lo"))
    leading = asyncio.create_task(bench.ask())
    await until(lambda: bench.cache.flights)
    following = asyncio.create_task(bench.ask())
    with pytest.raises(BackendDown) as raised:
        await leading
    assert raised.value.sent_token_count == 1
    assert text_of(await following) == "Hello"


async def test_a_follower_that_takes_over_has_its_prompt_compressed_like_the_leader_had() -> None:
    bench = a_bench(said("a"), words("a", "b"), compressor=FakeCompressor())
    leading = asyncio.create_task(bench.ask())
    await until(lambda: bench.cache.flights)
    following = asyncio.create_task(bench.ask())
    (flight,) = bench.cache.flights.values()
    await until(lambda: flight.follower_count == 1)
    leading.cancel()
    await following
    assert bench.engine.payloads == ["short prompt", "short prompt"]


async def test_a_follower_whose_cache_fails_reads_on_and_then_generates_alone() -> None:
    bench = a_bench(said("a", "b"), words("a", "b", "c"))
    leading = asyncio.create_task(bench.ask())
    await until(lambda: bench.cache.flights)
    bench.cache.follow_failures = [BackendDown("cache"), NotFound("over")]
    events = await bench.ask()
    assert text_of(events) == "abc" and bench.observer.passed == ["cache"]
    leading.cancel()
    await asyncio.wait({leading})


async def test_when_the_flight_itself_is_gone_one_follower_generates_for_all_others() -> None:
    bench = a_bench(said("Hel", "lo"), words("Hel", "lo", " world"))
    leading = asyncio.create_task(bench.ask())
    await until(lambda: bench.cache.flights)
    answers: list[list[object]] = [[] for _ in range(50)]
    following = [asyncio.create_task(collect(bench, answer)) for answer in answers]
    await until(lambda: [text_of(answer) for answer in answers] == ["Hello"] * 50)
    bench.cache.empty()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*following)
    assert len(bench.engine.asked) == 2, "the first, which nobody hears any more, and one for all"
    assert {text_of(events) for events in answers} == {"Hello world"}
    totals = [events[-1].cost.total for events in answers if isinstance(events[-1], Finished)]
    assert sum(total > 0 for total in totals) == 1, "who took over pays"
    leading.cancel()
    await asyncio.wait({leading})


async def test_a_follower_whose_flight_is_gone_goes_on_with_an_answer_that_is_stored_by_then() -> None:
    bench, other = a_bench(said("Hel")), a_bench(words("Hel", "lo"))
    await other.ask()
    leading = asyncio.create_task(bench.ask())
    await until(lambda: bench.cache.flights)
    events: list[object] = []
    following = asyncio.create_task(collect(bench, events))
    await until(lambda: text_of(events) == "Hel")
    bench.cache.answers |= other.cache.answers
    bench.cache.empty()
    async with asyncio.timeout(PATIENCE_S):
        await following
    assert text_of(events) == "Hello" and len(bench.engine.asked) == 1
    leading.cancel()
    await asyncio.wait({leading})


async def test_one_failed_reading_is_tried_again_from_where_it_was() -> None:
    bench = a_bench(words("a", "b", "c"))
    bench.cache.follow_failures = [BackendDown("cache")]
    answers = await asyncio.gather(bench.ask(), bench.ask())
    assert [text_of(events) for events in answers] == ["abc", "abc"] and len(bench.engine.asked) == 1


async def test_an_answer_that_differs_when_it_is_made_again_is_never_mixed_with_the_first() -> None:
    bench = a_bench(said("one", "two"), words("one", "three"))
    leading = asyncio.create_task(bench.ask())
    await until(lambda: bench.cache.flights)
    following = asyncio.create_task(bench.ask())
    (flight,) = bench.cache.flights.values()
    await until(lambda: flight.follower_count == 1 and len(flight.pieces) == 2)
    leading.cancel()
    with pytest.raises(BackendDown) as raised:
        await following
    assert raised.value.sent_token_count == 2


async def test_a_leader_that_lost_its_lease_still_answers_its_own_caller() -> None:
    class Strict(FakeCache):
        async def renew(self, lease, first, pieces):
            raise Conflict("another leads")

    bench = Bench(FakeEngine([words("a", "b")]), cache=Strict(shares_generation=True))
    assert text_of(await bench.ask()) == "ab"
    assert len(bench.cache.answers) == 1


async def test_an_answer_that_is_not_to_be_stored_gives_its_lease_back() -> None:
    bench = a_bench(words("a"), words("a"))
    await bench.ask(stores_answer=False)
    (flight,) = bench.cache.flights.values()
    await bench.answering._commits.drain()
    assert flight.is_vacant and bench.cache.answers == {}


def part(sent: SentAnswer, text: str, *ids: int) -> Piece | None:
    return sent.new_part(Piece(text=text, token_ids=ids, token_count=len(ids)))


def test_pieces_that_are_cut_elsewhere_the_second_time_are_cut_again() -> None:
    sent = SentAnswer()
    sent.add(Piece(text="Hello wo", token_ids=(1, 2, 3), token_count=3))
    assert part(sent, "Hello", 1, 2) is None and not sent.is_passed
    rest = part(sent, " world", 3, 4)
    assert rest is not None and (rest.text, rest.token_ids, rest.token_count) == ("rld", (4,), 1)
    assert sent.is_passed
    whole = part(sent, "!", 5)
    assert whole is not None and (whole.text, whole.token_count) == ("!", 1)
