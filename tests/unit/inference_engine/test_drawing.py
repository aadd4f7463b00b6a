"""A draw depends on logits, seed and position only: not on the batch, nor on how many ranks tell how much of a row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.engine import sampler
from services.inference.engine.candidates import Layout
from services.inference.engine.excerpts import MOST_CANDIDATES, excerpt_of
from services.inference.engine.messages import Sampling
from services.inference.engine.plan import WHOLE_ROW, Excerpt
from services.inference.engine.reduction import reduce_in_torch
from services.inference.engine.sampler import Draw, SamplingFailed
from tests.unit.inference_engine.excerpted import (
    SEQUENCES,
    SHAPES,
    drawn_in,
    excerpted,
    make_rows,
    make_sequence,
    require_same_draws,
)

GREEDY = Sampling(temperature=0.0)


@settings(max_examples=150, deadline=None)
@given(SEQUENCES, SHAPES, st.integers(1, 3))
def test_excerpts_of_any_number_of_ranks_draw_what_the_whole_row_draws(
    wishes: list[tuple[Sampling, int | None, int, int]], shape: tuple[int, float, float | None, float, int], size: int
) -> None:
    sequences = [make_sequence(*wish) for wish in wishes]
    require_same_draws(make_rows(len(sequences), shape), sequences, size, reduce_in_torch)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.7, top_p=0.9),
        Sampling(temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=1.1),
        Sampling(min_p=0.05),
        Sampling(top_k=64, top_p=0.95),
    ],
    ids=str,
)
def test_many_seeds_draw_the_same_from_one_and_from_two_ranks_and_from_whole_rows(sampling: Sampling) -> None:
    sequences = [make_sequence(sampling, None, 0, seed) for seed in range(200)]
    rows = np.tile(make_rows(1, (6_000, 3.0, None, 0.0, 5)), (200, 1))
    for size in (1, 2):
        require_same_draws(rows, sequences, size, reduce_in_torch)


@pytest.mark.parametrize(
    ("sampling", "logprobs"),
    [
        (GREEDY, None),
        (GREEDY, 5),
        (Sampling(top_k=40, top_p=0.9), None),
        (Sampling(temperature=0.6, top_k=MOST_CANDIDATES), 5),
    ],
)
def test_rows_whose_excerpt_is_enough_are_never_read(sampling: Sampling, logprobs: int | None) -> None:
    sequences = [make_sequence(sampling, logprobs, 0, seed) for seed in range(50)]
    excerpts = [excerpt_of(sequence) for sequence in sequences]
    assert all(excerpt.is_enough for excerpt in excerpts)
    for spread in (0.01, 4.0):
        logits = make_rows(50, (3_000, spread, None, 0.0, 1))
        rows = excerpted(logits, excerpts, 2, reduce_in_torch, is_readable=False)
        assert all(isinstance(drawn, Draw) for drawn in drawn_in(rows, sequences))


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.7, top_p=0.9),
        Sampling(min_p=0.02),
        Sampling(temperature=0.0, repetition_penalty=1.3),
        Sampling(temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=1.1, presence_penalty=0.5),
    ],
    ids=str,
)
def test_rows_like_a_trained_models_are_hardly_ever_read(sampling: Sampling) -> None:
    """A spread of 5 gives the likeliest of 20,000 tokens about a quarter of the probability."""
    sequences = [make_sequence(sampling, None, 0, seed) for seed in range(100)]
    excerpts = [excerpt_of(sequence) for sequence in sequences]
    logits = make_rows(100, (20_000, 5.0, None, 0.0, 2))
    rows = excerpted(logits, excerpts, 2, reduce_in_torch, is_readable=False)
    assert sum(isinstance(drawn, Draw) for drawn in drawn_in(rows, sequences)) >= 90


@pytest.mark.parametrize(
    ("sampling", "logprobs", "min_tokens", "expected"),
    [
        (GREEDY, None, 0, Excerpt(count=1, is_enough=True)),
        (GREEDY, 0, 0, Excerpt(count=1, temperature=1.0, is_enough=True)),
        (GREEDY, 5, 0, Excerpt(count=5, temperature=1.0, is_enough=True)),
        (GREEDY, MOST_CANDIDATES + 1, 0, WHOLE_ROW),
        (GREEDY, None, 1, Excerpt(count=64)),
        (Sampling(top_k=7), None, 0, Excerpt(count=7, is_enough=True)),
        (Sampling(top_k=7), 20, 0, Excerpt(count=20, temperature=1.0, is_enough=True)),
        (Sampling(top_k=MOST_CANDIDATES + 1), None, 0, WHOLE_ROW),
        (Sampling(temperature=0.5, top_p=0.9), None, 0, Excerpt(count=MOST_CANDIDATES, temperature=0.5)),
        (Sampling(temperature=0.5, top_p=0.9), 1, 0, WHOLE_ROW),
        (Sampling(top_p=0.9), 1, 0, Excerpt(count=MOST_CANDIDATES, temperature=1.0)),
        (Sampling(min_p=0.1), None, 0, Excerpt(count=MOST_CANDIDATES)),
        (Sampling(temperature=0.0, logit_bias={3: -1.0}), 80, 0, Excerpt(count=80, temperature=1.0)),
        (Sampling(top_k=20, repetition_penalty=1.1), None, 0, Excerpt(count=102)),
        (Sampling(temperature=0.0, logit_bias={3: 1.0}), None, 0, WHOLE_ROW),
        (Sampling(temperature=0.0, repetition_penalty=0.9), None, 0, WHOLE_ROW),
        (Sampling(top_p=0.9, frequency_penalty=0.1), None, 0, WHOLE_ROW),
    ],
)
def test_a_request_says_what_the_ranks_must_tell(
    sampling: Sampling, logprobs: int | None, min_tokens: int, expected: Excerpt
) -> None:
    assert excerpt_of(make_sequence(sampling, logprobs, min_tokens, 0)) == expected


def test_of_equal_logits_the_lowest_id_comes_first_whatever_the_ranks() -> None:
    logits = np.zeros((2, 1_000), dtype=np.float32)
    logits[:, [30, 499, 500, 980]] = 1.0
    sequences = [make_sequence(GREEDY, None, 0, 1), make_sequence(Sampling(top_k=2), 6, 0, 1)]
    excerpts = [excerpt_of(sequence) for sequence in sequences]
    for size in (1, 2, 3):
        best, sampled = drawn_in(excerpted(logits, excerpts, size, reduce_in_torch), sequences)
        assert isinstance(best, Draw) and best.token_id == 30
        assert isinstance(sampled, Draw) and sampled.token_id in (30, 499)
        assert [top.token_id for top in sampled.top] == [30, 499, 500, 980, 0, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 77, 499, 500, 999])
def test_a_row_that_is_not_numbers_fails_alone_wherever_the_bad_one_is(bad: float, place: int) -> None:
    wishes = [GREEDY, GREEDY, Sampling(), Sampling(), Sampling(top_k=3), Sampling(top_k=3), Sampling(top_k=300)]
    sequences = [make_sequence(sampling, None, 0, 1) for sampling in wishes]
    logits = make_rows(len(wishes), (1_000, 3.0, None, 0.0, 3))
    logits[0::2, place] = bad
    rows = excerpted(logits, [excerpt_of(sequence) for sequence in sequences], 2, reduce_in_torch)
    drawn = drawn_in(rows, sequences)
    assert all(isinstance(result, SamplingFailed) for result in drawn[0::2])
    assert all(isinstance(result, Draw) for result in drawn[1::2])


def test_a_border_too_close_to_call_is_left_to_the_whole_row() -> None:
    """Of 4,000 equally likely tokens, 0.025 is a hundred: a sum that is off by any amount gives one more or less."""
    sequences = [make_sequence(Sampling(top_p=top_p), None, 0, 1) for top_p in (0.025, 0.0251)]
    logits = np.zeros((2, 4_000), dtype=np.float32)
    rows = excerpted(logits, [excerpt_of(sequence) for sequence in sequences], 2, reduce_in_torch, is_readable=False)
    close, clear = drawn_in(rows, sequences)
    assert isinstance(close, IndexError) and isinstance(clear, Draw)


def test_an_error_in_one_row_of_a_batch_stays_with_that_row(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sampler.uniform

    def broken(seed: int, index: int) -> float:
        if seed == 13:
            raise RuntimeError("no number")
        return whole(seed, index)

    monkeypatch.setattr(sampler, "uniform", broken)
    sequences = [make_sequence(Sampling(top_k=3), None, 0, seed) for seed in (12, 13, 14)]
    logits = make_rows(3, (1_000, 3.0, None, 0.0, 3))
    rows = excerpted(logits, [excerpt_of(sequence) for sequence in sequences], 2, reduce_in_torch)
    drawn = drawn_in(rows, sequences)
    assert [isinstance(result, RuntimeError) for result in drawn] == [False, True, False]


def test_a_layout_has_room_for_values_ids_and_a_rest_of_each_row() -> None:
    layout = Layout([Excerpt(count=3), WHOLE_ROW, Excerpt(count=1)])
    assert (layout.begins_R.tolist(), layout.candidate_count, layout.word_count) == ([0, 3, 3], 4, 11)
