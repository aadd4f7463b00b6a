"""Rules of sequences that outlive an engine: who waits for the next one, how often, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from meshkit.errors import BackendDown, DeadlineExceeded
from services.inference.engine.messages import Abort, AddSequence, PromptScored, ToEngine, TokenDrawn
from services.inference.sequences import Sequences
from tests.support.inference_engines import drain, spec

TOLD = "the engine stopped"


class Time:
    now = 100.0


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(10):
        yield


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def sequences(time: Time) -> Sequences:
    return Sequences(most=4, retry_after_s=1.0, requeue_s=5.0, now=lambda: time.now)


def token(sequence_id: int, *, is_last: bool = False) -> TokenDrawn:
    return TokenDrawn(sequence_id=sequence_id, token_id=7, finish="length" if is_last else None)


async def test_sequence_without_an_event_is_answered_by_the_next_life(sequences: Sequences) -> None:
    first, second = list[ToEngine](), list[ToEngine]()
    stream = sequences.open(spec(5), first.append)
    sequences.set_aside(TOLD)
    sequences.resume(second.append)
    assert second == first
    sequences.give(token(stream.sequence_id, is_last=True))
    assert await drain(stream) == ([7], "length")
    assert len(sequences) == 0


@pytest.mark.parametrize("event", [token(1), PromptScored(sequence_id=1, drawn=[], top=[])], ids=["token", "scores"])
async def test_sequence_that_was_begun_ends_with_its_engine(
    sequences: Sequences, event: TokenDrawn | PromptScored
) -> None:
    stream = sequences.open(spec(5), lambda _: None)
    sequences.give(event)
    sequences.set_aside(TOLD)
    assert await stream.next_event() == event
    with pytest.raises(BackendDown, match=TOLD):
        await stream.next_event()


async def test_sequence_whose_second_engine_dies_as_well_is_not_sent_to_a_third(sequences: Sequences) -> None:
    stream, third = sequences.open(spec(5), lambda _: None), list[ToEngine]()
    sequences.set_aside(TOLD)
    sequences.resume(lambda _: None)
    sequences.set_aside(TOLD)
    sequences.resume(third.append)
    with pytest.raises(BackendDown, match=TOLD):
        await stream.next_event()
    assert third == []


async def test_sequence_goes_on_waiting_while_the_next_start_fails(sequences: Sequences) -> None:
    stream, sent = sequences.open(spec(5), lambda _: None), list[ToEngine]()
    sequences.set_aside(TOLD)
    sequences.set_aside(TOLD)
    sequences.resume(sent.append)
    assert [message.sequence_id for message in sent if isinstance(message, AddSequence)] == [stream.sequence_id]


async def test_sequence_waits_no_longer_than_the_setting_says(sequences: Sequences, time: Time) -> None:
    stream = sequences.open(spec(5), lambda _: None)
    sequences.set_aside(TOLD)
    time.now += 5.0
    with pytest.raises(BackendDown, match=TOLD):
        await stream.next_event()


async def test_time_in_the_line_of_the_next_life_is_not_bounded_by_the_wait(sequences: Sequences, time: Time) -> None:
    stream = sequences.open(spec(5), lambda _: None)
    sequences.set_aside(TOLD)
    reading = asyncio.create_task(stream.next_event())
    await asyncio.sleep(0)
    sequences.resume(lambda _: None)
    time.now += 60.0
    await asyncio.sleep(0)
    sequences.give(token(stream.sequence_id))
    assert await reading == token(stream.sequence_id)


async def test_deadline_ends_the_wait_and_shrinks_what_the_next_life_is_given(sequences: Sequences, time: Time) -> None:
    sent = list[ToEngine]()
    early = sequences.open(replace(spec(5), deadline_s=2.0), lambda _: None)
    late = sequences.open(replace(spec(5), deadline_s=4.5), lambda _: None)
    time.now += 1.0
    sequences.set_aside(TOLD)
    time.now += 1.5
    sequences.resume(sent.append)
    with pytest.raises(DeadlineExceeded):
        await early.next_event()
    assert [(message.sequence_id, message.deadline_s) for message in sent if isinstance(message, AddSequence)] == [
        (late.sequence_id, 2.0)
    ]


async def test_closed_while_it_waits_is_sent_to_nobody_and_aborted_nowhere(sequences: Sequences) -> None:
    first, second = list[ToEngine](), list[ToEngine]()
    stream = sequences.open(spec(5), first.append)
    sequences.set_aside(TOLD)
    stream.close()
    sequences.resume(second.append)
    assert len(first) == 1 and second == [] and len(sequences) == 0


async def test_abort_of_a_sequence_goes_to_the_engine_that_has_it(sequences: Sequences) -> None:
    first, second = list[ToEngine](), list[ToEngine]()
    stream = sequences.open(spec(5), first.append)
    sequences.set_aside(TOLD)
    sequences.resume(second.append)
    stream.close()
    assert len(first) == 1 and second[1:] == [Abort(sequence_id=stream.sequence_id)]


async def test_those_that_wait_count_among_the_open_ones(sequences: Sequences) -> None:
    for _ in range(3):
        sequences.open(spec(5), lambda _: None)
    sequences.set_aside(TOLD)
    assert len(sequences) == 3
    sequences.fail_all(TOLD)
    assert len(sequences) == 0


async def test_without_the_setting_nothing_waits() -> None:
    sequences = Sequences(most=4, retry_after_s=1.0)
    stream = sequences.open(spec(5), lambda _: None)
    sequences.set_aside(TOLD)
    with pytest.raises(BackendDown, match=TOLD):
        await stream.next_event()
