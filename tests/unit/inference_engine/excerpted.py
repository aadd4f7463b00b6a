"""Steps of random rows and requests, as rank 0 sees them from any number of ranks, for tests of what is drawn."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.inference.engine.candidates import Layout
from services.inference.engine.drawing import draw_all
from services.inference.engine.excerpts import excerpt_of
from services.inference.engine.messages import Sampling
from services.inference.engine.plan import Excerpt
from services.inference.engine.reduction import Reduce
from services.inference.engine.rows import Rows
from services.inference.engine.sampler import Draw
from services.inference.engine.sequence import Sequence
from services.inference.engine.vocabulary import SharedBoard
from tests.unit.inference_engine.requests import request

Logits = NDArray[np.float32]

SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.01, 0.3, 0.7, 1.0, 1.0, 2.5]),
    top_k=st.sampled_from([0, 0, 0, 1, 5, 40, 256, 257]),
    top_p=st.sampled_from([1.0, 1.0, 0.999, 0.9, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.0, 0.0, 1e-6, 0.05, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.0, 1.1, 0.8]),
    presence_penalty=st.sampled_from([0.0, 0.0, 1.5, -0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.7]),
    logit_bias=st.sampled_from([{}, {}, {1: -100.0}, {2: 5.0, 0: -1.0}]),
)
SHAPES = st.tuples(
    st.sampled_from([3, 40, 300, 2_000, 9_000]),  # of the vocabulary
    st.sampled_from([0.05, 1.0, 4.0, 15.0]),  # of the logits' spread
    st.sampled_from([None, 0.5, 4.0]),  # rounded to multiples of this, for many equals
    st.sampled_from([0.0, 0.3, 0.999]),  # share of impossible tokens
    st.integers(0, 2**32 - 1),
)
SEQUENCES = st.lists(
    st.tuples(SAMPLINGS, st.sampled_from([None, None, 0, 3]), st.integers(0, 1), st.integers(0, 2**64 - 1)),
    min_size=1,
    max_size=8,
)


def make_sequence(sampling: Sampling, logprobs: int | None, min_tokens: int, seed: int) -> Sequence:
    message = request(1, [0, 1, 2], sampling=sampling, logprobs=logprobs, min_tokens=min_tokens, stop_token_ids=(1, 2))
    return Sequence(request=message, seed=seed, arrived_at=0.0, token_ids=[0, 1, 2])


def make_rows(count: int, shape: tuple[int, float, float | None, float, int]) -> Logits:
    vocabulary, spread, step, impossible, seed = shape
    random = np.random.default_rng(seed)
    logits = random.standard_normal((count, vocabulary)) * spread
    if step is not None:
        logits = np.round(logits / step) * step
    logits[random.random((count, vocabulary)) < impossible] = -np.inf
    logits[:, vocabulary // 2] = 0.0
    return logits.astype(np.float32)


def excerpted(
    logits_RV: Logits, excerpts: list[Excerpt], size: int, reduce: Reduce, *, is_readable: bool = True
) -> Rows:
    """What rank 0 has of them where `size` ranks hold a slice each. To read a row that is not readable is an error."""
    layout, count = Layout(excerpts), len(excerpts)
    rows, words = torch.from_numpy(logits_RV.copy()), torch.full((size, layout.word_count), torch.nan).double()
    for rank in range(size):
        board = SharedBoard(rows, words, rank, fence=lambda: None)
        board.gather(reduce(board.own_columns(count), board.first_id, layout), count, [])
    return Rows(excerpts, layout, words.numpy(), logits_RV if is_readable else logits_RV[:0])


def drawn_in(rows: Rows, sequences: list[Sequence]) -> list[Draw | Exception]:
    drawn = draw_all(rows, list(enumerate(sequences)))
    return [drawn[row] for row in range(len(sequences))]


def require_same_draws(logits_RV: Logits, sequences: list[Sequence], size: int, reduce: Reduce) -> None:
    """Rows that are read whole, one by one, and excerpts, all at once, must lead to the same."""
    excerpts = [excerpt_of(sequence) for sequence in sequences]
    alone = [drawn_in(Rows.whole(logits_RV[i : i + 1]), [sequence])[0] for i, sequence in enumerate(sequences)]
    together = drawn_in(excerpted(logits_RV, excerpts, size, reduce), sequences)
    for expected, actual in zip(alone, together, strict=True):
        if isinstance(expected, Exception) or isinstance(actual, Exception):
            assert repr(expected) == repr(actual)
            continue
        assert actual.token_id == expected.token_id
        assert [top.token_id for top in actual.top if top.logprob > -np.inf] == [
            top.token_id for top in expected.top if top.logprob > -np.inf
        ]
        for ours, theirs in zip(_logprobs(actual), _logprobs(expected), strict=False):
            assert ours == theirs or abs(ours - theirs) < 1e-5  # the ranks' exponentials are float32


def _logprobs(draw: Draw) -> list[float]:
    return [] if draw.logprob is None else [draw.logprob, *(top.logprob for top in draw.top)]
