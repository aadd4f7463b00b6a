"""What a caller asks of this engine, as asked: nothing is checked or filled in yet (see `validation.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the assistant made in an earlier turn."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation."""

    role: str
    content: str
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Exactly one of `turns`, `text` and `token_ids` is not None in a valid prompt."""

    turns: tuple[Turn, ...] | None = None
    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    is_raw: bool = False
    tool_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingWish:
    """How tokens are to be drawn; None: the model's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    n: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppingWish:
    """When the answer is to end."""

    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputWish:
    """What the answer is to carry besides text."""

    logprobs: int | None = None
    prompt_logprobs: int | None = None
    echo: bool = False
    include_token_ids: bool = False
    block_hashes: bool = False
    """Say at the start which blocks of the prefix cache the prompt is made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One question to the engine."""

    prompt: Prompt
    request_id: str = ""
    sampling: SamplingWish = field(default_factory=SamplingWish)
    stopping: StoppingWish = field(default_factory=StoppingWish)
    output: OutputWish = field(default_factory=OutputWish)
    constraint_kind: str = ""
    priority: int = 0
    ttft_slo_s: float | None = None
    """From the request's arrival to its first token, as wished."""
    adapter: str = ""
    model: str = ""
