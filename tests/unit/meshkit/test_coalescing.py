"""Rules of meshkit.coalescing."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.clock import SystemClock
from meshkit.coalescing import Coalescer, Outbox, Piece


def token(text: str = "x", index: int = 0) -> Piece:
    return Piece(index=index, text=text, token_ids=(ord(text[0]),), logprobs=(text,), token_count=1)


def test_first_token_is_due_at_once() -> None:
    coalescer = Coalescer(interval_s=0.015)
    assert coalescer.due_at() is None
    coalescer.add(token())
    assert coalescer.due_at() == -math.inf


def test_first_token_of_each_answer_is_due_at_once() -> None:
    coalescer = Coalescer(interval_s=0.015)
    coalescer.add(token())
    coalescer.flush(1.0)
    coalescer.add(token(index=1))
    assert coalescer.due_at() == -math.inf


def test_later_token_waits_until_the_last_message_is_one_interval_old() -> None:
    coalescer = Coalescer(interval_s=0.5)
    coalescer.add(token())
    coalescer.flush(1.0)
    coalescer.add(token())
    assert coalescer.due_at() == 1.5


def test_full_piece_is_due_at_once() -> None:
    coalescer = Coalescer(interval_s=0.5, max_tokens=3)
    coalescer.add(token())
    coalescer.flush(1.0)
    for _ in range(3):
        assert coalescer.due_at() != -math.inf
        coalescer.add(token())
    assert coalescer.due_at() == -math.inf


def test_flush_joins_text_ids_logprobs_and_counts_of_each_answer() -> None:
    coalescer = Coalescer()
    for text, index in [("a", 0), ("b", 1), ("c", 0)]:
        coalescer.add(token(text, index))
    assert coalescer.flush(0.0) == [
        Piece(index=0, text="ac", token_ids=(97, 99), logprobs=("a", "c"), token_count=2),
        Piece(index=1, text="b", token_ids=(98,), logprobs=("b",), token_count=1),
    ]
    assert coalescer.due_at() is None
    assert coalescer.flush(0.0) == []


@given(gaps=st.lists(st.floats(min_value=0.0, max_value=0.05), min_size=1, max_size=60))
def test_no_token_is_held_longer_than_the_interval(gaps: list[float]) -> None:
    coalescer, now, held_since, sent = Coalescer(interval_s=0.015), 0.0, math.inf, 0
    for gap in gaps:
        arrival = now + gap
        due_at = coalescer.due_at()
        if due_at is not None and due_at <= arrival:
            assert due_at - held_since <= 0.015 + 1e-9
            sent += sum(piece.token_count for piece in coalescer.flush(max(now, due_at)))
            held_since = math.inf
        now = arrival
        coalescer.add(token())
        held_since = min(held_since, now)
        if (coalescer.due_at() or 0.0) <= now:
            sent += sum(piece.token_count for piece in coalescer.flush(now))
            held_since = math.inf
    assert sent + sum(piece.token_count for piece in coalescer.flush(now)) == len(gaps)


async def test_outbox_gives_the_first_token_before_the_second_exists() -> None:
    outbox = Outbox(Coalescer(interval_s=60.0), SystemClock())
    batches = outbox.batches()
    outbox.put(token("a"))
    async with asyncio.timeout(5):
        assert [piece.text for piece in await anext(batches)] == ["a"]
    await batches.aclose()


async def test_outbox_gives_what_is_held_after_the_interval_without_a_further_token() -> None:
    outbox = Outbox(Coalescer(interval_s=0.01), SystemClock())
    batches = outbox.batches()
    outbox.put(token("a"))
    async with asyncio.timeout(5):
        await anext(batches)
        outbox.put(token("b"))
        outbox.put(token("c"))
        assert [piece.text for piece in await anext(batches)] == ["bc"]
    await batches.aclose()


async def test_outbox_gives_all_that_is_held_at_the_end() -> None:
    outbox = Outbox(Coalescer(interval_s=60.0), SystemClock())
    for text in "abcd":
        outbox.put(token(text))
    outbox.end()
    async with asyncio.timeout(5):
        assert [piece.text async for batch in outbox.batches() for piece in batch] == ["abcd"]


async def test_outbox_gives_what_is_held_and_then_raises_the_failure() -> None:
    outbox = Outbox(Coalescer(interval_s=60.0), SystemClock())
    outbox.put(token("a"))
    outbox.fail(ConnectionError("gone"))
    seen = []
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionError):
            async for batch in outbox.batches():
                seen += [piece.text for piece in batch]
    assert seen == ["a"]
