"""Each sampling field does what its name says, on rows small enough to check by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.inference.engine import sampler
from services.inference.engine.messages import Sampling
from services.inference.engine.sequence import Sequence
from tests.unit.inference_engine.requests import request

Logits = NDArray[np.float32]


def row(*logits: float) -> Logits:
    return np.array(logits, dtype=np.float32)


def sequence(sampling: Sampling, *, seed: int = 1, drawn: tuple[int, ...] = (), **changes: Any) -> Sequence:
    message = request(1, [0], sampling=sampling, **changes)
    return Sequence(request=message, seed=seed, arrived_at=0.0, token_ids=[0, *drawn])


def drawn_over_seeds(logits: Logits, sampling: Sampling, count: int = 400) -> Counter[int]:
    return Counter(sampler.draw(logits, sequence(sampling, seed=seed)).token_id for seed in range(count))


LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05])).astype(np.float32)


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        (Sampling(temperature=0.0), {0}),
        (Sampling(), {0, 1, 2, 3}),
        (Sampling(top_k=2), {0, 1}),
        (Sampling(top_p=0.79), {0, 1}),
        (Sampling(top_p=0.81), {0, 1, 2}),
        (Sampling(top_p=0.01), {0}),
        (Sampling(min_p=0.2), {0, 1, 2}),
        (Sampling(min_p=1.0), {0}),
        (Sampling(top_k=3, top_p=0.5), {0}),
        (Sampling(logit_bias={3: 100.0}), {3}),
        (Sampling(temperature=0.01), {0}),
    ],
)
def test_filters_leave_exactly_the_tokens_they_should(sampling: Sampling, possible: set[int]) -> None:
    assert set(drawn_over_seeds(LOGITS, sampling)) == possible


def test_frequencies_follow_the_probabilities() -> None:
    counts = drawn_over_seeds(LOGITS, Sampling(), 4000)
    for token, probability in enumerate((0.5, 0.3, 0.15, 0.05)):
        # four standard deviations of a binomial
        tolerance = 4 * (probability * (1 - probability) / 4000) ** 0.5
        assert counts[token] / 4000 == pytest.approx(probability, abs=tolerance)


@pytest.mark.parametrize("count", [100, 1000, 6000])
def test_a_nucleus_of_any_width_is_exact(count: int) -> None:
    """Of equally likely tokens, the first ones in the order of their ids."""
    drawn = drawn_over_seeds(row(*[0.0] * count), Sampling(top_p=0.25), 2000)
    # the highest of 2,000 draws lies in the uppermost hundredth of the nucleus but for a chance of 2e-9
    assert 0.99 * 0.25 * count - 1 <= max(drawn) < 0.25 * count


def test_without_filters_every_token_is_as_likely_as_it_should_be_however_many_there_are() -> None:
    logits = np.zeros(2000, dtype=np.float32)
    logits[::2] = np.log(3.0)
    counts = drawn_over_seeds(logits, Sampling(), 4000)
    even = sum(count for token, count in counts.items() if token % 2 == 0)
    assert even / 4000 == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 4000) ** 0.5)
    assert len(counts) > 1500


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=0.0, repetition_penalty=4.0), 2),
        (Sampling(temperature=0.0, presence_penalty=1.5), 2),
        (Sampling(temperature=0.0, frequency_penalty=0.75), 2),
        (Sampling(temperature=0.0, frequency_penalty=0.4), 1),
    ],
)
def test_penalties_turn_away_from_tokens_already_drawn(sampling: Sampling, expected: int) -> None:
    logits = row(-9.0, 2.0, 1.0)
    assert sampler.draw(logits, sequence(sampling, drawn=(1, 1))).token_id == expected


def test_same_seed_and_position_draw_the_same_whatever_else_happened() -> None:
    logits = np.random.default_rng(3).standard_normal(1000).astype(np.float32)
    draws = [sampler.draw(logits, sequence(Sampling(), seed=42, drawn=(7, 8))).token_id for _ in range(3)]
    assert len(set(draws)) == 1
    streams = {tuple(sampler.uniform(seed, i) for i in range(4)) for seed in (1, 2, 2**64 - 1, -1)}
    assert len(streams) == 3  # -1 and 2**64 - 1 are the same 64 bits


def test_logprobs_are_the_models_own_before_temperature_and_bias() -> None:
    sampling = Sampling(temperature=0.0, logit_bias={3: 100.0})
    draw = sampler.draw(LOGITS, sequence(sampling, logprobs=2))
    assert draw.token_id == 3
    assert draw.logprob == pytest.approx(float(LOGITS[3]), abs=1e-6)
    assert [top.token_id for top in draw.top] == [0, 1]
    assert [top.logprob for top in draw.top] == pytest.approx(LOGITS[:2].tolist(), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logits", [[float("nan"), 1.0], [float("-inf"), float("-inf")], [float("inf"), float("nan")]])
def test_row_without_numbers_fails(logits: list[float], temperature: float) -> None:
    with pytest.raises(sampler.SamplingFailed):
        sampler.draw(row(*logits), sequence(Sampling(temperature=temperature)))


def test_drawing_leaves_the_logits_alone() -> None:
    logits = LOGITS.copy()
    sampler.draw(logits, sequence(Sampling(repetition_penalty=2.0, logit_bias={1: 1.0}, min_p=0.1), drawn=(2,)))
    assert np.array_equal(logits, LOGITS)
