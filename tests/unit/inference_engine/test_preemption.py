"""Rules of who is pushed out for whom, and what becomes of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.engine import draws
from services.inference.engine.messages import Sampling
from services.inference.engine.plan import StepPlan
from services.inference.engine.scheduler import Scheduler
from tests.unit.inference_engine.requests import Transcript, make_scheduler, request, run_step
from tests.unit.inference_engine.test_scheduler import ConstantRunner


def step(scheduler: Scheduler, transcript: Transcript, now: float = 0.0) -> StepPlan:
    plan = scheduler.plan(now)
    assert plan is not None
    transcript.take(draws.apply(plan, ConstantRunner().run(plan), scheduler, now))
    return plan


def run_out(scheduler: Scheduler, transcript: Transcript) -> None:
    while plan := scheduler.plan(0.0):
        transcript.take(draws.apply(plan, ConstantRunner().run(plan), scheduler, 0.0))


def ids(plan: StepPlan) -> list[int]:
    return [chunk.sequence_id for chunk in plan.chunks]


def test_a_sequence_of_clearly_higher_priority_pushes_out_the_last_and_both_give_every_token_once() -> None:
    scheduler, transcript = make_scheduler(blocks=4), Transcript()
    for sequence_id, priority in ((1, 1), (2, 0)):
        scheduler.add(request(sequence_id, [9] * 20, max_tokens=10, priority=priority), seed=0, now=0.0)
    for _ in range(4):
        step(scheduler, transcript)
    scheduler.add(request(3, [8] * 20, max_tokens=10, priority=5), seed=0, now=0.0)

    assert sorted(ids(step(scheduler, transcript))) == [1, 3]
    run_out(scheduler, transcript)

    assert {i: transcript.ids(i) for i in (1, 2, 3)} == {i: [5] * 10 for i in (1, 2, 3)}
    assert all([token.finish for token in transcript.tokens[i]] == [None] * 9 + ["length"] for i in (1, 2, 3))
    assert scheduler.load().preemption_count == 1


def test_one_step_of_priority_pushes_nobody_out() -> None:
    scheduler, transcript = make_scheduler(max_sequences=1), Transcript()
    scheduler.add(request(1, [9]), seed=0, now=0.0)
    step(scheduler, transcript)
    scheduler.add(request(2, [9], priority=1), seed=0, now=0.0)
    assert ids(step(scheduler, transcript)) == [1]


def test_nobody_is_pushed_out_where_that_would_not_make_enough_room() -> None:
    scheduler, transcript = make_scheduler(blocks=4), Transcript()
    scheduler.add(request(1, [9] * 20, max_tokens=10, priority=10), seed=0, now=0.0)
    scheduler.add(request(2, [8] * 20, max_tokens=10), seed=0, now=0.0)
    step(scheduler, transcript)
    scheduler.add(request(3, [7] * 40, max_tokens=10, priority=10), seed=0, now=0.0)
    step(scheduler, transcript)
    assert scheduler.load().running_count == 2
    assert scheduler.load().preemption_count == 0


def test_no_more_are_pushed_out_than_needed() -> None:
    scheduler, transcript = make_scheduler(blocks=8), Transcript()
    scheduler.add(request(1, [9] * 4, max_tokens=10, priority=-2), seed=0, now=0.0)
    scheduler.add(request(2, [8] * 100, max_tokens=10, priority=-1), seed=0, now=0.0)
    step(scheduler, transcript)
    scheduler.add(request(3, [7] * 60, max_tokens=4, priority=5), seed=0, now=0.0)
    step(scheduler, transcript)
    assert {sequence.sequence_id for sequence in scheduler.running} == {1, 3}


def test_a_sequence_is_pushed_out_a_few_times_at_most() -> None:
    scheduler, transcript = make_scheduler(max_sequences=1, most_preemptions=2), Transcript()
    scheduler.add(request(1, [9], max_tokens=50, priority=-10), seed=0, now=0.0)
    seen = []
    for sequence_id in range(2, 12, 2):
        step(scheduler, transcript)
        scheduler.add(request(sequence_id, [8], max_tokens=1, priority=10), seed=0, now=0.0)
        seen += ids(step(scheduler, transcript))
    assert seen == [2, 4, 1, 1, 1]


def test_tokens_computed_again_are_no_hits_and_no_use() -> None:
    scheduler, transcript = make_scheduler(max_sequences=1, reuses_prefixes=False), Transcript()
    scheduler.add(request(1, [9] * 20, max_tokens=10), seed=0, now=0.0)
    for _ in range(3):
        step(scheduler, transcript)
    scheduler.add(request(2, [8], max_tokens=1, priority=10), seed=0, now=0.0)
    run_out(scheduler, transcript)
    load = scheduler.load()
    assert load.useful_token_count == 29 + 1
    assert load.computed_slot_count == 30 + 22
    assert (load.prompt_token_count, load.cached_prompt_token_count) == (21, 0)


def test_prompt_scores_come_once_from_a_sequence_that_was_pushed_out_half_way() -> None:
    scheduler, transcript = make_scheduler(max_sequences=1), Transcript()
    scheduler.add(request(1, [9] * 40, max_tokens=2, prompt_logprobs=0), seed=0, now=0.0)
    step(scheduler, transcript)
    scheduler.add(request(2, [8], max_tokens=1, priority=10), seed=0, now=0.0)
    run_out(scheduler, transcript)
    assert len(transcript.scored[1].drawn) == 39
    assert transcript.ids(1) == [5, 5]


class NoisyRunner(ConstantRunner):
    """Every row is the same, and likes many tokens."""

    def __init__(self) -> None:
        super().__init__()
        self._row = np.random.default_rng(3).standard_normal(400).astype(np.float32)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_draws_the_same_tokens_whether_pushed_out_or_not(seed: int) -> None:
    drawn = []
    for is_pushed_out in (False, True):
        scheduler, transcript, runner = make_scheduler(max_sequences=1), Transcript(), NoisyRunner()
        scheduler.add(request(1, [9] * 20, max_tokens=12, sampling=Sampling(temperature=1.0)), seed=seed, now=0.0)
        for _ in range(4):
            run_step(runner, scheduler, transcript)
        if is_pushed_out:
            scheduler.add(request(2, [8], max_tokens=3, priority=10), seed=0, now=0.0)
        while run_step(runner, scheduler, transcript):
            pass
        assert scheduler.load().preemption_count == int(is_pushed_out)
        drawn.append(transcript.ids(1))
    assert drawn[0] == drawn[1] and len(set(drawn[0])) > 3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(-10, 10)), min_size=1, max_size=10),
    st.sampled_from([None, 1, 8]),
    st.integers(7, 12),
)
def test_any_mix_that_comes_one_by_one_ends_with_every_token_given_once(
    shapes: list[tuple[int, int, int]], reserve: int | None, blocks: int
) -> None:
    scheduler = make_scheduler(blocks=blocks, max_sequences=4, output_reserve_tokens=reserve)
    transcript = Transcript()
    for i, (length, drawn, priority) in enumerate(shapes):
        scheduler.add(request(i, [i + 6] * length, max_tokens=drawn, priority=priority), seed=0, now=0.0)
        step(scheduler, transcript)
        if scheduler.load().running_count:
            step(scheduler, transcript)
    run_out(scheduler, transcript)
    assert {i: len(tokens) for i, tokens in transcript.tokens.items()} == {
        i: drawn for i, (_, drawn, _) in enumerate(shapes)
    }
    assert scheduler.load().kv_used_tokens == 0


@pytest.mark.parametrize("reserve", [1, 4])
def test_reserving_a_part_of_the_output_lets_more_run_at_once(reserve: int) -> None:
    whole, part = make_scheduler(blocks=8), make_scheduler(blocks=8, output_reserve_tokens=reserve)
    for scheduler in (whole, part):
        for i in range(8):
            scheduler.add(request(i, [i + 6] * 4, max_tokens=100, stop_token_ids=(5,)), seed=0, now=0.0)
        step(scheduler, Transcript())
    assert (whole.load().preemption_count, part.load().preemption_count) == (0, 0)
    assert (whole.load().waiting_count, part.load().waiting_count) == (7, 0)
