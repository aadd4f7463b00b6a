"""The kernel that reduces a rank's slice tells the same as torch's operations do, and leads to the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.engine.candidates import Layout
from services.inference.engine.kernels import build
from services.inference.engine.kernels.build import NoKernels
from services.inference.engine.kernels.native import Kernels
from services.inference.engine.messages import Sampling
from services.inference.engine.plan import WHOLE_ROW, Excerpt
from services.inference.engine.reduction import reduce_in_torch
from tests.support.engine_process import CACHE_DIR
from tests.support.real import missing
from tests.unit.inference_engine.excerpted import SEQUENCES, SHAPES, make_rows, make_sequence, require_same_draws

EXCERPTS = [
    Excerpt(count=1),
    WHOLE_ROW,
    Excerpt(count=1, temperature=1.0),
    Excerpt(count=40, temperature=0.3),
    Excerpt(count=256),
    Excerpt(count=256, temperature=2.0),
    Excerpt(count=7),
    Excerpt(count=256, temperature=0.001),
]


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    try:
        return Kernels(build.build(CACHE_DIR), threads=2)
    except NoKernels as reason:
        missing(f"kernels: {reason}")


@pytest.mark.parametrize("vocabulary", [1, 7, 8, 63, 64, 65, 200, 256, 257, 1_000, 20_011])
@pytest.mark.parametrize("step", [None, 1.0])
@pytest.mark.parametrize("impossible", [0.0, 0.9])
def test_kernel_and_torch_find_the_same_candidates_and_sums(
    kernels: Kernels, vocabulary: int, step: float | None, impossible: float
) -> None:
    layout = Layout(EXCERPTS)
    rows = make_rows(len(EXCERPTS), (vocabulary, 4.0, step, impossible, vocabulary))
    apart = torch.full((len(EXCERPTS), vocabulary + 5), torch.nan)
    apart[:, :vocabulary] = torch.from_numpy(rows)

    ours = kernels.reduce(apart[:, :vocabulary], 1_000, layout).numpy()
    expected = reduce_in_torch(torch.from_numpy(rows), 1_000, layout).numpy()

    exact = 2 * layout.candidate_count
    assert np.array_equal(ours[:exact], expected[:exact])
    # the error that `choice` allows for is 2e-5; cold rows (temperature 0.001) have nothing but rounding in the rest
    np.testing.assert_allclose(ours[exact:], expected[exact:], rtol=3e-6, atol=1e-30)


def test_sums_are_within_the_bound_that_the_draws_rely_on(kernels: Kernels) -> None:
    layout = Layout([Excerpt(count=256, temperature=temperature) for temperature in (0.05, 0.3, 1.0, 2.5)])
    rows = make_rows(4, (80_000, 5.0, None, 0.0, 8))
    values = rows.astype(np.float64)
    weights = np.sort(np.exp((values - values.max(axis=1, keepdims=True)) / layout.temperatures_R[:, None]), axis=1)
    expected = weights[:, :-256].sum(axis=1)
    for reduce in (kernels.reduce, reduce_in_torch):
        rests = reduce(torch.from_numpy(rows), 0, layout).numpy()[2 * layout.candidate_count :]
        assert (np.abs(rests - expected) < 0.5e-5 * expected + 1e-12).all()


def test_a_row_with_nan_is_all_nan_and_leaves_the_others_alone(kernels: Kernels) -> None:
    layout = Layout([EXCERPTS[0], EXCERPTS[0], EXCERPTS[5], EXCERPTS[5]])
    rows = make_rows(4, (500, 4.0, None, 0.0, 1))
    rows[0, 499] = rows[2, 3] = np.nan
    words = kernels.reduce(torch.from_numpy(rows), 0, layout).numpy()
    assert np.isnan(words[0]) and np.isnan(words[2 : 2 + 256]).all()
    assert np.isfinite(words[1]) and np.isfinite(words[2 + 256 : 2 + 512]).all()


@settings(max_examples=150, deadline=None)
@given(SEQUENCES, SHAPES, st.integers(1, 3))
def test_the_kernels_excerpts_draw_what_the_whole_row_draws(
    kernels: Kernels,
    wishes: list[tuple[Sampling, int | None, int, int]],
    shape: tuple[int, float, float | None, float, int],
    size: int,
) -> None:
    sequences = [make_sequence(*wish) for wish in wishes]
    require_same_draws(make_rows(len(sequences), shape), sequences, size, kernels.reduce)
