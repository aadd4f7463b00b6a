"""The ranges of every value that a caller may send, in one table, and the error that names field and range.

The checks read messages of the contract and plain values with the same field names alike; absent is None there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from meshkit.errors import InvalidRequest

MAX_ANSWERS = 8
MAX_TOKENS = 1_048_576
MAX_STOP_STRINGS = 16
MAX_STOP_STRING_CHARACTERS = 256
MAX_STOP_TOKENS = 64
MAX_LOGIT_BIASES = 512
MAX_LOGPROBS = 20
MAX_TURNS = 2048
MAX_REQUEST_ID_CHARACTERS = 128
CHARACTERS_PER_TOKEN = 16
"""More characters than this times the context can't fit in any usual text; they are refused before tokenising."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A closed range, or one that is open at its lower end."""

    field: str
    low: float
    high: float
    excludes_low: bool = False

    def check(self, value: float | None) -> None:
        """Raise InvalidRequest where a value is given and lies outside."""
        if value is None:
            return
        if math.isnan(value):
            raise InvalidRequest("is not a number", field=self.field, limit=str(self))
        is_inside = (self.low < value if self.excludes_low else self.low <= value) and value <= self.high
        if not is_inside:
            raise InvalidRequest(f"{value:g} is out of range", field=self.field, limit=str(self))

    def __str__(self) -> str:
        return f"{'(' if self.excludes_low else '['}{self.low:g}, {self.high:g}]"


TEMPERATURE = Range(field="sampling.temperature", low=0, high=2)
TOP_P = Range(field="sampling.top_p", low=0, high=1, excludes_low=True)
TOP_K = Range(field="sampling.top_k", low=-1, high=2**31 - 1)
MIN_P = Range(field="sampling.min_p", low=0, high=1)
REPETITION_PENALTY = Range(field="sampling.repetition_penalty", low=0, high=2, excludes_low=True)
PRESENCE_PENALTY = Range(field="sampling.presence_penalty", low=-2, high=2)
FREQUENCY_PENALTY = Range(field="sampling.frequency_penalty", low=-2, high=2)
LOGIT_BIAS = Range(field="sampling.logit_bias", low=-100, high=100)
ANSWERS = Range(field="sampling.n", low=1, high=MAX_ANSWERS)
SAMPLING = {
    "temperature": TEMPERATURE,
    "top_p": TOP_P,
    "top_k": TOP_K,
    "min_p": MIN_P,
    "repetition_penalty": REPETITION_PENALTY,
    "presence_penalty": PRESENCE_PENALTY,
    "frequency_penalty": FREQUENCY_PENALTY,
    "n": ANSWERS,
}
LOGPROBS = Range(field="output.logprobs", low=0, high=MAX_LOGPROBS)
PROMPT_LOGPROBS = Range(field="output.prompt_logprobs", low=0, high=MAX_LOGPROBS)
TTFT_SLO = Range(field="ttft_slo", low=0, high=86_400, excludes_low=True)
PRIORITY = Range(field="priority", low=-10, high=10)


def check_sampling(sampling: Any) -> None:
    """Raise InvalidRequest for the first value out of range; `sampling` has the fields of SamplingParams."""
    for field, allowed in SAMPLING.items():
        allowed.check(_given(sampling, field))
    check_count(len(sampling.logit_bias), most=MAX_LOGIT_BIASES, field=LOGIT_BIAS.field)
    for bias in sampling.logit_bias.values():
        LOGIT_BIAS.check(bias)


def check_stopping(stopping: Any, *, most_tokens: int = MAX_TOKENS) -> None:
    """The same for the fields of StoppingParams. `most_tokens`: the model's context, where it is known."""
    max_tokens = _given(stopping, "max_tokens")
    Range(field="stopping.max_tokens", low=1, high=most_tokens).check(max_tokens)
    Range(field="stopping.min_tokens", low=0, high=max_tokens or most_tokens).check(_given(stopping, "min_tokens"))
    check_count(len(stopping.stop), most=MAX_STOP_STRINGS, field="stopping.stop")
    check_count(len(stopping.stop_token_ids), most=MAX_STOP_TOKENS, field="stopping.stop_token_ids")
    for position, stop in enumerate(stopping.stop):
        if not 1 <= len(stop) <= MAX_STOP_STRING_CHARACTERS:
            limit = f"1..{MAX_STOP_STRING_CHARACTERS} characters"
            raise InvalidRequest(f"has {len(stop)} characters", field=f"stopping.stop[{position}]", limit=limit)


def check_output(output: Any) -> None:
    """The same for the fields of OutputParams."""
    LOGPROBS.check(_given(output, "logprobs"))
    PROMPT_LOGPROBS.check(_given(output, "prompt_logprobs"))


def _given(values: Any, field: str) -> float | None:
    """The value, or None where it is absent; a message would answer with its zero."""
    if isinstance(values, Message) and not values.HasField(field):
        return None
    value: float | None = getattr(values, field)
    return value


def check_count(count: int, *, most: int, field: str) -> None:
    """Raise InvalidRequest for a list that is too long."""
    if count > most:
        raise InvalidRequest(f"{count} entries are too many", field=field, limit=f"at most {most}")


def check_token_ids(ids: tuple[int, ...], vocabulary_size: int, field: str) -> None:
    """Raise InvalidRequest for the first id that the model doesn't have."""
    if ids and not (min(ids) >= 0 and max(ids) < vocabulary_size):
        position = next(at for at, token_id in enumerate(ids) if not 0 <= token_id < vocabulary_size)
        limit = f"0..{vocabulary_size - 1}"
        raise InvalidRequest(f"{ids[position]} is no token of this model", field=f"{field}[{position}]", limit=limit)


def check_characters(count: int, context_tokens: int) -> None:
    """Raise InvalidRequest for text that can't fit, without tokenising it."""
    most = context_tokens * CHARACTERS_PER_TOKEN
    if count > most:
        limit = f"{most} characters for a context of {context_tokens} tokens"
        raise InvalidRequest(f"the prompt has {count} characters", field="prompt", limit=limit)


def check_fits_context(count: int, context_tokens: int, about: str = "") -> None:
    """Raise InvalidRequest for a prompt that leaves no room for an answer. `about` goes before the count."""
    if count >= context_tokens:
        limit = f"context of {context_tokens} tokens, one of them for the answer"
        raise InvalidRequest(f"the prompt has {about}{count} tokens", field="prompt", limit=limit)
