"""How the next token is drawn from one whole row of logits, and how likely tokens are. Defines what is drawn: an
excerpt is drawn from only where the result is the same (see `choice` and `drawing`).

A draw depends on the sequence's seed and the number of tokens drawn so far, on nothing else: a request with a seed
repeats whatever it is batched with, up to the rounding of the logits themselves. Without filters, the likeliest
MOST_CANDIDATES come first and the others after them by id, so that nothing need be sorted.

Legend: V vocabulary.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass, field

import numpy as np

from services.inference.engine import candidates
from services.inference.engine.bending import bent_row
from services.inference.engine.candidates import Logits
from services.inference.engine.choice import UNCERTAIN, choose
from services.inference.engine.excerpts import MOST_CANDIDATES
from services.inference.engine.messages import Sampling, TokenLogprob
from services.inference.engine.sequence import Sequence

_MORE_CANDIDATES = 4096  # a full sort of 262k logits takes 20 ms


class SamplingFailed(Exception):
    """No token can be drawn from this row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A drawn token, with what was asked to be reported about it."""

    token_id: int
    logprob: float | None = None
    top: list[TokenLogprob] = field(default_factory=list)


def draw(logits_V: Logits, sequence: Sequence) -> Draw:
    """Draw the sequence's next token. Raises SamplingFailed; leaves `logits_V` as it is."""
    number = uniform(sequence.seed, sequence.drawn_count)
    token_id = _choose(bent_row(logits_V, sequence), sequence.request.sampling, number)
    if sequence.request.logprobs is None:
        return Draw(token_id=token_id)
    drawn, top = score(logits_V, token_id, sequence.request.logprobs)
    return Draw(token_id=token_id, logprob=drawn.logprob, top=top)


def score(logits_V: Logits, token_id: int, top_count: int) -> tuple[TokenLogprob, list[TokenLogprob]]:
    """The log-probability of one token and of the `top_count` likeliest at the same position."""
    most = float(logits_V.max())
    require_number(most)
    total = most + math.log(_sum(np.exp(logits_V - np.float32(most))))
    drawn = TokenLogprob(token_id=token_id, logprob=float(logits_V[token_id]) - total)
    ids = candidates.top_ids(logits_V, min(top_count, len(logits_V))).tolist() if top_count else []
    return drawn, [TokenLogprob(token_id=top_id, logprob=float(logits_V[top_id]) - total) for top_id in ids]


def uniform(seed: int, index: int) -> float:
    """The `index`-th number in [0, 1) of a stream that `seed` names."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed % 2**64, index), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / float(1 << 53)


def require_number(most: float) -> None:
    """`most` is the largest of a row, NaN if any is."""
    if not np.isfinite(most):
        raise SamplingFailed("the model's logits are not numbers")


def _choose(logits_V: Logits, sampling: Sampling, number: float) -> int:
    best = int(logits_V.argmax())  # the first NaN, if there is one
    require_number(float(logits_V[best]))
    if sampling.temperature == 0.0:
        return best
    if sampling.top_k > 0 or sampling.min_p > 0.0 or sampling.top_p < 1.0:
        return _filtered(logits_V, sampling, number)
    return _unfiltered(logits_V, sampling, number)


def _filtered(logits_V: Logits, sampling: Sampling, number: float) -> int:
    """From as few of the likeliest as hold all that the filters let through."""
    needs_rest = sampling.top_k == 0 and sampling.min_p == 0.0
    for count in (MOST_CANDIDATES, _MORE_CANDIDATES, len(logits_V)):
        if count < sampling.top_k and count < len(logits_V):
            continue
        ids_K = candidates.top_ids(logits_V, count)
        rest = _sum(candidates.other_weights(logits_V, ids_K, sampling.temperature)) if needs_rest else 0.0
        found = candidates.of_row(logits_V, ids_K, rest)
        place = int(choose(found, [sampling], np.array([number]), is_exact=True)[0])
        if place != UNCERTAIN:
            return int(ids_K[place])
    raise AssertionError("all tokens are candidates")


def _unfiltered(logits_V: Logits, sampling: Sampling, number: float) -> int:
    ids_K = candidates.top_ids(logits_V, MOST_CANDIDATES)
    weights_V = candidates.other_weights(logits_V, ids_K, sampling.temperature)
    rest = _sum(weights_V)
    found = candidates.of_row(logits_V, ids_K, rest)
    place = int(choose(found, [sampling], np.array([number]), is_exact=True)[0])
    if place != UNCERTAIN:
        return int(ids_K[place])
    mass = float(np.exp((found.values_BK[0] - found.values_BK[0, 0]) / sampling.temperature).sum())
    sums_V = weights_V.astype(np.float64)
    sums_V.cumsum(out=sums_V)
    point = min(max(number * (mass + rest) - mass, 0.0), np.nextafter(sums_V[-1], 0.0))
    return int(np.searchsorted(sums_V, point, side="right"))


def _sum(weights_V: Logits) -> float:
    return float(weights_V.sum(dtype=np.float64))
