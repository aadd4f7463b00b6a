"""How fast a stored answer is given back."""

from __future__ import annotations

import asyncio
import dataclasses

from meshkit.coalescing import Piece
from meshkit.testing.clock import FakeClock
from services.router.events import Accepted, Finished, FinishReason
from tests.unit.router.fakes import Bench, FakeCache, FakeEngine, question, words

OFFSETS_S = (0.0, 0.5, 2.0)


async def a_bench(offsets_s: tuple[float, ...] = OFFSETS_S) -> tuple[Bench, FakeClock]:
    """With an answer of three pieces that came at these times after the first."""
    clock = FakeClock()
    bench = Bench(FakeEngine([words("a", "b", "c")]), cache=FakeCache(), clock=clock)
    await bench.ask()
    ((digest, answer),) = bench.cache.answers.items()
    pieces = tuple((offset_s, Piece(text=text, token_count=1)) for offset_s, text in zip(offsets_s, "abc", strict=True))
    bench.cache.answers[digest] = dataclasses.replace(answer, pieces=pieces)
    return bench, clock


async def arrivals(bench: Bench, clock: FakeClock, *, reading_s: float = 0.0, **changes: object) -> list[float]:
    """When each piece came, after the first."""
    times: list[float] = []

    async def read() -> None:
        asked = question(arrived_at=clock.now(), **changes)
        async for event in bench.answering.answer(asked):
            if isinstance(event, Piece):
                times.append(clock.now())
                await clock.sleep(reading_s)

    reading = asyncio.create_task(read())
    await clock.advance(60.0)
    await reading
    return [at - times[0] for at in times]


async def test_a_hit_comes_at_once_unless_it_is_asked_for_otherwise() -> None:
    bench, clock = await a_bench()
    assert await arrivals(bench, clock) == [0.0, 0.0, 0.0]


async def test_a_paced_hit_comes_as_it_came_when_it_was_generated() -> None:
    bench, clock = await a_bench()
    assert await arrivals(bench, clock, replays_paced=True) == list(OFFSETS_S)


async def test_a_slow_reader_makes_no_replay_longer_than_the_original_and_its_own_reading() -> None:
    bench, clock = await a_bench()
    assert await arrivals(bench, clock, replays_paced=True, reading_s=1.5) == [0.0, 1.5, 3.0]


async def test_times_that_are_out_of_order_never_hold_a_piece_longer_than_the_whole_answer_took() -> None:
    bench, clock = await a_bench((0.0, 40.0, 2.0))
    assert await arrivals(bench, clock, replays_paced=True) == [0.0, 2.0, 2.0]


async def test_a_cancellation_ends_a_paced_replay_between_two_pieces() -> None:
    bench, clock = await a_bench()
    events: list[object] = []
    note = events.append

    async def read() -> None:
        async for event in bench.answering.answer(question(arrived_at=clock.now(), replays_paced=True)):
            note(event)

    reading = asyncio.create_task(read())
    await clock.advance(1.0)
    accepted = events[0]
    assert isinstance(accepted, Accepted) and len(events) == 3
    assert bench.journal.cancel("default", decision_id=accepted.decision_id)
    await asyncio.wait_for(reading, 5)
    finished = events[-1]
    assert isinstance(finished, Finished) and finished.finish_reason is FinishReason.CANCELLED
    assert finished.usage.completion_tokens == 2 and finished.cost.saved_by_cache == 0
    assert len(events) == 4


async def test_a_caller_that_goes_away_ends_a_paced_replay() -> None:
    bench, clock = await a_bench()
    reading = asyncio.create_task(bench.ask(replays_paced=True))
    await clock.advance(0.1)
    assert bench.admission.active_count == 1
    reading.cancel()
    await asyncio.wait({reading})
    assert bench.admission.active_count == 0 and bench.journal.running_count == 0
