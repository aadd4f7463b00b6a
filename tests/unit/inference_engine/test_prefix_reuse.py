"""Rules of what a sequence finds in the prefix cache, and what it leaves there."""

from __future__ import annotations

import hashlib
from array import array

import pytest

from services.inference.engine import draws
from services.inference.engine.blocks import BLOCK_TOKENS
from services.inference.engine.plan import Chunk
from services.inference.engine.prefix import PrefixChain, block_hash
from services.inference.engine.scheduler import Scheduler
from tests.unit.inference_engine.requests import Transcript, make_scheduler, request
from tests.unit.inference_engine.test_scheduler import ConstantRunner

PROMPT = list(range(6, 6 + 50))  # three whole blocks and two tokens


def run(scheduler: Scheduler, *messages: object) -> tuple[Transcript, list[Chunk]]:
    """All events and chunks until nothing is left to do."""
    transcript, chunks = Transcript(), []
    for message in messages:
        scheduler.add(message, seed=0, now=0.0)  # type: ignore[arg-type]
    while plan := scheduler.plan(0.0):
        chunks += plan.chunks
        transcript.take(draws.apply(plan, ConstantRunner().run(plan), scheduler, 0.0))
    return transcript, chunks


def cached(transcript: Transcript, sequence_id: int) -> int:
    return transcript.tokens[sequence_id][0].cached_prompt_tokens


def test_second_prompt_starts_behind_the_blocks_of_the_first() -> None:
    scheduler = make_scheduler(step_tokens=64)
    run(scheduler, request(1, PROMPT))
    transcript, chunks = run(scheduler, request(2, [*PROMPT, 7, 8]))
    assert (chunks[0].start, len(chunks[0].token_ids)) == (3 * BLOCK_TOKENS, 4)
    assert cached(transcript, 2) == 3 * BLOCK_TOKENS
    assert [token.cached_prompt_tokens for token in transcript.tokens[2][1:]] == [0] * 7
    load = scheduler.load()
    assert (load.prompt_token_count, load.cached_prompt_token_count) == (102, 48)


def test_last_token_of_a_prompt_is_always_computed() -> None:
    scheduler = make_scheduler(step_tokens=64)
    run(scheduler, request(1, PROMPT[:32]))
    transcript, chunks = run(scheduler, request(2, PROMPT[:32]))
    assert cached(transcript, 2) == 16
    assert chunks[0].start == 16


def test_an_answer_is_found_by_the_next_turn() -> None:
    scheduler = make_scheduler(step_tokens=64)
    first, _ = run(scheduler, request(1, PROMPT, max_tokens=20))
    transcript, _ = run(scheduler, request(2, [*PROMPT, *first.ids(1), 9]))
    assert cached(transcript, 2) == 64


@pytest.mark.parametrize(
    "changes", [{"cache_salt": "other"}, {"cache_salt": "ada", "prompt_logprobs": 0}], ids=["tenant", "scores"]
)
def test_other_tenants_and_scored_prompts_reuse_nothing(changes: dict[str, object]) -> None:
    scheduler = make_scheduler(step_tokens=64)
    run(scheduler, request(1, PROMPT, cache_salt="ada"))
    transcript, chunks = run(scheduler, request(2, PROMPT, **changes))
    assert cached(transcript, 2) == chunks[0].start == 0


def test_a_block_is_shared_only_once_it_is_computed() -> None:
    scheduler = make_scheduler(step_tokens=64)
    scheduler.add(request(1, PROMPT), seed=0, now=0.0)
    plan = scheduler.plan(0.0)
    assert plan is not None
    scheduler.add(request(2, PROMPT), seed=0, now=0.0)
    both = scheduler.plan(0.0)
    assert both is not None and len(both.chunks) == 2
    assert [sequence.computed_count for sequence in scheduler.running] == [0, 0]
    tables = [set(sequence.block_ids) for sequence in scheduler.running]
    assert tables[0].isdisjoint(tables[1])


def test_of_prompts_that_come_together_one_computes_what_they_share() -> None:
    scheduler = make_scheduler(step_tokens=32)
    prompts = [request(i, [*range(6, 6 + 160), i + 200]) for i in range(1, 5)]
    transcript, _ = run(scheduler, *prompts)
    assert sorted(cached(transcript, i) for i in range(1, 5)) == [0, 160, 160, 160]
    assert scheduler.load().computed_slot_count == 161 + 3 + 4 * 7
    assert scheduler.load().kv_used_tokens == 0


def test_a_flush_leaves_nothing_to_find_not_even_from_what_still_runs() -> None:
    scheduler = make_scheduler(step_tokens=64)
    run(scheduler, request(1, PROMPT))
    scheduler.add(request(2, PROMPT, max_tokens=40, cache_salt="other"), seed=0, now=0.0)
    for _ in range(2):
        plan = scheduler.plan(0.0)
        assert plan is not None
        draws.apply(plan, ConstantRunner().run(plan), scheduler, 0.0)
    assert scheduler.flush() == 3
    run(scheduler)
    for sequence_id, salt in ((3, ""), (4, "other")):
        transcript, _ = run(scheduler, request(sequence_id, PROMPT, cache_salt=salt))
        assert cached(transcript, sequence_id) == 0


def test_a_pinned_prefix_outlives_what_would_have_evicted_it() -> None:
    scheduler = make_scheduler(blocks=12)
    assert scheduler.pin(PROMPT, "") == 3
    run(scheduler, request(1, PROMPT))
    run(scheduler, *(request(10 + i, [100 + i] * 100, max_tokens=20) for i in range(8)))
    transcript, _ = run(scheduler, request(2, PROMPT))
    assert cached(transcript, 2) == 48
    scheduler.unpin(PROMPT, "")
    run(scheduler, *(request(20 + i, [200 + i] * 150, max_tokens=20) for i in range(8)))
    transcript, _ = run(scheduler, request(3, PROMPT))
    assert cached(transcript, 3) == 0


def test_a_prefix_that_can_not_be_kept_as_a_whole_is_not_kept_at_all() -> None:
    scheduler = make_scheduler(blocks=8)
    assert scheduler.pin(list(range(64)), "") == 4
    assert scheduler.pin(list(range(80)), "") == scheduler.pin(PROMPT, "") == 0
    scheduler.unpin(list(range(64)), "")
    assert scheduler.pin(PROMPT, "") == 3


def test_a_pinned_prefix_gives_way_to_a_sequence_that_needs_the_whole_pool() -> None:
    scheduler = make_scheduler(blocks=8)
    scheduler.pin(PROMPT, "")
    run(scheduler, request(1, PROMPT))
    transcript, _ = run(scheduler, request(2, [9] * 120, max_tokens=8))
    assert len(transcript.ids(2)) == 8


def test_a_block_is_named_by_salt_and_every_token_up_to_its_end() -> None:
    root = hashlib.blake2b(b"ada", digest_size=16).digest()
    first = hashlib.blake2b(root + array("q", PROMPT[:16]).tobytes(), digest_size=16).digest()
    second = hashlib.blake2b(first + array("q", PROMPT[16:32]).tobytes(), digest_size=16).digest()
    chain = PrefixChain("ada")
    assert [chain.at(1, PROMPT), chain.at(0, PROMPT)] == [second, first]
    assert block_hash(first) == int.from_bytes(first[:8], "little")
