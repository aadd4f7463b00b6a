"""Rules of the scheduler, with a model that always says the same."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.engine import draws, sampler
from services.inference.engine.plan import StepPlan
from services.inference.engine.precedence import starvation_bound_s
from services.inference.engine.rows import Rows
from services.inference.engine.scheduler import Rejected
from tests.unit.inference_engine.requests import make_scheduler, request, run_to_end


class ConstantRunner:
    """Every row likes token 5 best; keeps the plans that it was given."""

    def __init__(self, vocabulary_size: int = 400) -> None:
        self._row = np.zeros(vocabulary_size, dtype=np.float32)
        self._row[5] = 1.0
        self.plans: list[StepPlan] = []

    def run(self, plan: StepPlan) -> Rows:
        self.plans.append(plan)
        return Rows.whole(np.tile(self._row, (plan.logit_count, 1)))


def test_sequence_that_could_never_fit_is_rejected_alone() -> None:
    scheduler = make_scheduler(blocks=4)
    with pytest.raises(Rejected, match="exceed the KV cache of 64 tokens"):
        scheduler.add(request(1, [9] * 60, max_tokens=5), seed=0, now=0.0)
    assert scheduler.load().waiting_count == 0


def test_sequence_longer_than_the_context_is_rejected_though_the_cache_could_hold_it() -> None:
    scheduler = make_scheduler(blocks=64, context_tokens=20)
    scheduler.add(request(1, [9] * 15, max_tokens=5), seed=0, now=0.0)
    with pytest.raises(Rejected, match="exceed the context of 20"):
        scheduler.add(request(2, [9] * 15, max_tokens=6), seed=0, now=0.0)


@pytest.mark.parametrize("prompt", [[], [400], [-1]])
def test_prompt_that_is_not_made_of_the_models_tokens_is_rejected(prompt: list[int]) -> None:
    with pytest.raises(Rejected):
        make_scheduler().add(request(1, prompt), seed=0, now=0.0)


def test_sequences_wait_for_blocks_and_all_finish() -> None:
    requests = [request(i, [9] * 20, max_tokens=12) for i in range(9)]
    transcript = run_to_end(ConstantRunner(), requests, make_scheduler(blocks=4))
    assert all(transcript.ids(i) == [5] * 12 for i in range(9))


def test_higher_priority_is_admitted_first() -> None:
    scheduler = make_scheduler(max_sequences=1)
    scheduler.add(request(1, [9]), seed=0, now=0.0)
    scheduler.add(request(2, [9], priority=1), seed=0, now=1.0)
    plan = scheduler.plan(2.0)
    assert plan is not None and [chunk.sequence_id for chunk in plan.chunks] == [2]


def test_least_urgent_runs_within_the_bound_however_many_urgent_ones_come() -> None:
    scheduler, order = make_scheduler(max_sequences=1, ageing_s=1.0), []
    scheduler.add(request(0, [9], priority=-10, max_tokens=2), seed=0, now=0.0)
    for second in range(60):
        for urgent in (100 + second, 200 + second):  # more than can be served
            scheduler.add(request(urgent, [9], priority=10, max_tokens=1), seed=0, now=float(second))
        plan = scheduler.plan(float(second))
        assert plan is not None
        draws.apply(plan, ConstantRunner().run(plan), scheduler, float(second))
        order.append(plan.chunks[0].sequence_id)
    overtakers = [sequence_id % 100 for sequence_id in order[: order.index(0)]]
    assert max(overtakers) <= starvation_bound_s(1.0)
    assert order.count(0) == 2


def test_long_prompt_goes_in_chunks_while_others_keep_decoding() -> None:
    runner = ConstantRunner()
    run_to_end(runner, [request(1, [9], max_tokens=20), request(2, [9] * 100, max_tokens=2)], make_scheduler())
    assert max(plan.token_count for plan in runner.plans) == 32
    assert all(any(chunk.sequence_id == 1 for chunk in plan.chunks) for plan in runner.plans[:4])


def test_company_is_waited_for_only_while_nothing_runs_and_the_window_is_open() -> None:
    scheduler = make_scheduler(batching_window_s=0.04)
    scheduler.add(request(1, [9]), seed=0, now=1.0)
    assert scheduler.plan(1.01) is None and scheduler.idle_s(1.01) == pytest.approx(0.03)
    scheduler.add(request(2, [9]), seed=0, now=1.02)
    plan = scheduler.plan(1.04)
    assert plan is not None and len(plan.chunks) == 2
    scheduler.add(request(3, [9]), seed=0, now=1.05)
    plan = scheduler.plan(1.05)
    assert plan is not None and [chunk.sequence_id for chunk in plan.chunks][-1] == 3


def test_a_full_batch_waits_for_no_company() -> None:
    scheduler = make_scheduler(batching_window_s=0.04, max_sequences=2)
    for sequence_id in (1, 2):
        scheduler.add(request(sequence_id, [9]), seed=0, now=1.0)
    assert scheduler.plan(1.0) is not None


def test_expired_sequences_end_before_they_take_another_step() -> None:
    scheduler = make_scheduler(max_sequences=1)
    scheduler.add(request(1, [9], deadline_s=2.0), seed=0, now=0.0)
    scheduler.add(request(2, [9], deadline_s=1.0), seed=0, now=0.0)
    scheduler.add(request(3, [9]), seed=0, now=0.0)
    assert scheduler.plan(0.0) is not None
    assert scheduler.expire(0.9) == []
    assert scheduler.expire(2.0) == [2, 1]
    plan = scheduler.plan(2.0)
    assert plan is not None and [chunk.sequence_id for chunk in plan.chunks] == [3]


def test_a_sequence_that_is_here_already_is_not_taken_twice() -> None:
    scheduler = make_scheduler()
    scheduler.add(request(1, [9]), seed=0, now=0.0)
    with pytest.raises(Rejected, match="here already"):
        scheduler.add(request(1, [9]), seed=0, now=0.0)


def test_scheduling_and_drawing_need_no_torch() -> None:
    code = "import sys, services.inference.engine.loop; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_abort_frees_blocks_at_once_and_unknown_ids_are_ignored() -> None:
    scheduler = make_scheduler()
    scheduler.add(request(1, [9] * 20), seed=0, now=0.0)
    scheduler.plan(0.0)
    assert scheduler.end(1)
    assert not scheduler.end(1)
    assert scheduler.load().kv_used_tokens == 0


def test_stop_token_ends_the_sequence_but_not_before_min_tokens() -> None:
    stopped = run_to_end(ConstantRunner(), [request(1, [9], stop_token_ids=(5,))], make_scheduler())
    assert [token.finish for token in stopped.tokens[1]] == ["stop"]
    later = run_to_end(ConstantRunner(), [request(1, [9], stop_token_ids=(5,), min_tokens=3)], make_scheduler())
    assert [token.finish for token in later.tokens[1]] == [None, None, None, "stop"]
    assert 5 not in later.ids(1)[:3]


class PoisonedRunner(ConstantRunner):
    """Gives NaN for the first chunk of each step."""

    def run(self, plan: StepPlan) -> Rows:
        rows = super().run(plan)
        if plan.chunks[0].sequence_id == 1:
            rows.logits_RV[0] = np.nan
        return rows


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_logits_that_are_not_numbers_end_that_sequence_alone(temperature: float) -> None:
    sampling = request(0, [9]).sampling.__class__(temperature=temperature)
    scheduler = make_scheduler()
    requests = [request(1, [9], sampling=sampling), request(2, [9])]
    transcript = run_to_end(PoisonedRunner(), requests, scheduler)
    assert "not numbers" in transcript.failed[1].problem
    assert transcript.ids(2) == [5] * 8
    assert scheduler.load().kv_used_tokens == 0


def test_an_unforeseen_error_of_a_sequence_is_named_in_the_log_alone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("/srv/models/secret")

    monkeypatch.setattr(sampler, "draw", broken)
    transcript = run_to_end(ConstantRunner(), [request(1, [9])], make_scheduler())
    assert transcript.failed[1].problem == "its tokens could not be drawn"
    assert "/srv/models/secret" in capfd.readouterr().err


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 70), st.integers(1, 20), st.booleans(), st.integers(0, 2)), max_size=12),
    st.integers(6, 12),
)
def test_any_mix_of_requests_ends_with_every_block_free_and_within_the_limits(
    shapes: list[tuple[int, int, bool, int]], blocks: int
) -> None:
    scheduler, runner = make_scheduler(blocks=blocks, max_sequences=4), ConstantRunner()
    requests = [
        request(
            i,
            [9] * length,
            max_tokens=drawn,
            prompt_logprobs=0 if scores else None,
            priority=priority,
            cache_salt=str(i),
        )
        for i, (length, drawn, scores, priority) in enumerate(shapes)
    ]
    transcript = run_to_end(runner, requests, scheduler)
    assert {i: len(tokens) for i, tokens in transcript.tokens.items()} == {
        i: drawn for i, (_, drawn, _, _) in enumerate(shapes)
    }
    assert scheduler.load().kv_used_tokens == scheduler.load().running_count == 0
    for plan in runner.plans:
        assert plan.token_count <= 32 and plan.logit_count <= 20 and len(plan.chunks) <= 4
        used = [block for chunk in plan.chunks for block in chunk.block_ids]
        assert len(used) == len(set(used))
