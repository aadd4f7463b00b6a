"""How the next token is drawn from one row of logits. Row by row, so that one sequence's failure stays its own.

Legend: V vocabulary. Order of operations as in vLLM: mask of stop tokens (min_tokens), logit bias, penalties,
temperature, then min_p, top_k and top_p. Reported log-probabilities are those of the model, before all of that.

A draw depends on the sequence's seed and the number of tokens drawn so far, on nothing else: a request with a seed
repeats whatever it is batched with, up to the rounding of the logits themselves.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from services.inference.engine.messages import Sampling, TokenLogprob
from services.inference.engine.sequence import Sequence

_HEAD_COUNT = 1024  # top_p rarely needs more candidates; a full sort of 262k logits takes 15 ms


class SamplingFailed(Exception):
    """No token can be drawn from this row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A drawn token, with what was asked to be reported about it."""

    token_id: int
    logprob: float | None
    top: list[TokenLogprob]


def draw(logits_V: Tensor, sequence: Sequence) -> Draw:
    """Draw the sequence's next token. Raises SamplingFailed; leaves `logits_V` as it is."""
    token_id = _choose(_shaped(logits_V, sequence), sequence)
    if sequence.request.logprobs is None:
        return Draw(token_id=token_id, logprob=None, top=[])
    scored = score(logits_V, token_id, sequence.request.logprobs)
    return Draw(token_id=token_id, logprob=scored[0].logprob, top=scored[1])


def score(logits_V: Tensor, token_id: int, top_count: int) -> tuple[TokenLogprob, list[TokenLogprob]]:
    """The log-probability of one token and of the `top_count` likeliest at the same position."""
    logprobs_V = torch.log_softmax(logits_V.float(), dim=-1)
    _require_numbers(logprobs_V)
    drawn = TokenLogprob(token_id=token_id, logprob=float(logprobs_V[token_id]))
    values, ids = torch.topk(logprobs_V, min(top_count, logprobs_V.shape[0]))
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return drawn, [TokenLogprob(token_id=top_id, logprob=value) for top_id, value in pairs]


def _shaped(logits_V: Tensor, sequence: Sequence) -> Tensor:
    sampling = sequence.request.sampling
    masked = sequence.must_not_stop_yet and sequence.request.stopping.stop_token_ids
    if not (masked or sampling.logit_bias or _penalises(sampling)):
        return logits_V
    shaped_V = logits_V.float().clone()
    if masked:
        shaped_V[list(sequence.request.stopping.stop_token_ids)] = -torch.inf
    if sampling.logit_bias:
        shaped_V[list(sampling.logit_bias)] += torch.tensor(list(sampling.logit_bias.values()))
    if _penalises(sampling):
        _penalise(shaped_V, sequence)
    return shaped_V


def _penalises(sampling: Sampling) -> bool:
    return sampling.repetition_penalty != 1.0 or sampling.presence_penalty != 0.0 or sampling.frequency_penalty != 0.0


def _penalise(logits_V: Tensor, sequence: Sequence) -> None:
    """Repetition counts prompt and output, presence and frequency the output alone."""
    sampling = sequence.request.sampling
    seen = torch.tensor(sorted(set(sequence.token_ids)))
    values = logits_V[seen]
    penalty = sampling.repetition_penalty
    logits_V[seen] = torch.where(values > 0, values / penalty, values * penalty)
    if sequence.drawn_count:
        counts = Counter(sequence.drawn_ids)
        penalties = [sampling.frequency_penalty * count + sampling.presence_penalty for count in counts.values()]
        logits_V[list(counts)] -= torch.tensor(penalties)


def _choose(logits_V: Tensor, sequence: Sequence) -> int:
    sampling = sequence.request.sampling
    if sampling.temperature == 0.0:
        best = int(logits_V.numpy().argmax())  # four times as fast as torch's
        _require_numbers(logits_V[best])
        return best
    scaled_V = logits_V.double() / sampling.temperature
    probabilities, ids = _candidates(scaled_V, sampling)
    cumulative = probabilities.cumsum(0)
    _require_numbers(cumulative[-1])
    point = uniform(sequence.seed, sequence.drawn_count) * cumulative[-1]
    index = int(torch.searchsorted(cumulative, point, right=True))
    index = min(index, cumulative.shape[0] - 1)
    return index if ids is None else int(ids[index])


def _candidates(logits_V: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor | None]:
    """Probabilities that survive the filters and the ids they belong to (None: ids are positions), likeliest first."""
    probabilities_V = torch.softmax(logits_V, dim=-1)
    if sampling.min_p > 0.0:
        keep = probabilities_V >= sampling.min_p * probabilities_V.max()
        probabilities_V = torch.where(keep, probabilities_V, 0.0)
    if sampling.top_k > 0:
        values, ids = torch.topk(probabilities_V, min(sampling.top_k, probabilities_V.shape[0]))
        return _nucleus(values, sampling.top_p, values.sum()), ids
    if sampling.top_p >= 1.0:
        return probabilities_V, None
    return _by_nucleus(probabilities_V, sampling.top_p)


def _by_nucleus(probabilities_V: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    total = probabilities_V.sum()
    count = min(_HEAD_COUNT, probabilities_V.shape[0])
    values, ids = torch.topk(probabilities_V, count)
    if values.sum() < top_p * total:
        values, ids = torch.sort(probabilities_V, descending=True)
    return _nucleus(values, top_p, total), ids


def _nucleus(sorted_probabilities: Tensor, top_p: float, total: Tensor) -> Tensor:
    """Zero all but the fewest leading entries whose sum reaches `top_p` of `total`; the first always stays."""
    if top_p >= 1.0:
        return sorted_probabilities
    before = sorted_probabilities.cumsum(0) - sorted_probabilities
    keep = before < top_p * total
    keep[0] = True
    return torch.where(keep, sorted_probabilities, 0.0)


def uniform(seed: int, index: int) -> float:
    """The `index`-th number in [0, 1) of a stream that `seed` names."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed % 2**64, index), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / float(1 << 53)


def _require_numbers(values: Tensor) -> None:
    if not bool(torch.isfinite(values).any()) or bool(torch.isnan(values).any()):
        raise SamplingFailed("the model's logits are not numbers")
