"""What a request does to logits token by token: stop tokens forbidden below min_tokens, logit bias, penalties.

Order as in vLLM. Everything is computed in float32 for each token on its own, so that it comes out the same in a whole
row and in an excerpt. Repetition counts prompt and output, presence and frequency the output alone.

Legend: V vocabulary, N some of its tokens.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from services.inference.engine.candidates import Ints, Logits
from services.inference.engine.messages import Sampling
from services.inference.engine.sequence import Sequence


def bends(sequence: Sequence) -> bool:
    """Whether the next draw changes any logit."""
    sampling = sequence.request.sampling
    return bool(_forbidden(sequence) or sampling.logit_bias or _repeats(sampling) or _counts(sampling))


def only_lowers(sequence: Sequence) -> bool:
    """Whether no logit can rise, so that what was not among the likeliest does not get there."""
    sampling = sequence.request.sampling
    least = min(sampling.repetition_penalty - 1.0, sampling.presence_penalty, sampling.frequency_penalty)
    return least >= 0.0 and max(sampling.logit_bias.values(), default=0.0) <= 0.0


def bent_row(logits_V: Logits, sequence: Sequence) -> Logits:
    """The row as it is to be drawn from; a copy if anything is changed."""
    if not bends(sequence):
        return logits_V
    ids_N = np.array(sorted(_concerned(sequence)), dtype=np.int64)
    shaped_V = logits_V.copy()
    shaped_V[ids_N] = bent(logits_V[ids_N], ids_N, sequence)
    return shaped_V


def bent(logits_N: Logits, ids_N: Ints, sequence: Sequence) -> Logits:
    """New logits of these tokens."""
    sampling, ids = sequence.request.sampling, ids_N.tolist()
    values_N = logits_N.astype(np.float32)
    if forbidden := set(_forbidden(sequence)):
        values_N[[token in forbidden for token in ids]] = -np.inf
    if sampling.logit_bias:
        values_N += np.array([sampling.logit_bias.get(token, 0.0) for token in ids], dtype=np.float32)
    if _repeats(sampling):
        values_N = _less_repetition(values_N, ids, sequence)
    if _counts(sampling):
        counts = Counter(sequence.drawn_ids)
        penalties = [_penalty(sampling, counts[token]) if token in counts else 0.0 for token in ids]
        values_N -= np.array(penalties, dtype=np.float32)
    return values_N


def _less_repetition(values_N: Logits, ids: list[int], sequence: Sequence) -> Logits:
    penalty, seen = np.float32(sequence.request.sampling.repetition_penalty), set(sequence.token_ids)
    is_seen_N = np.array([token in seen for token in ids], dtype=bool)
    return np.where(is_seen_N, np.where(values_N > 0, values_N / penalty, values_N * penalty), values_N)


def _penalty(sampling: Sampling, count: int) -> float:
    return sampling.frequency_penalty * count + sampling.presence_penalty


def _concerned(sequence: Sequence) -> set[int]:
    sampling = sequence.request.sampling
    concerned = {*_forbidden(sequence), *sampling.logit_bias}
    if _repeats(sampling):
        concerned.update(sequence.token_ids)
    elif _counts(sampling):
        concerned.update(sequence.drawn_ids)
    return concerned


def _forbidden(sequence: Sequence) -> tuple[int, ...]:
    return sequence.request.stopping.stop_token_ids if sequence.must_not_stop_yet else ()


def _repeats(sampling: Sampling) -> bool:
    return sampling.repetition_penalty != 1.0


def _counts(sampling: Sampling) -> bool:
    return sampling.presence_penalty != 0.0 or sampling.frequency_penalty != 0.0
