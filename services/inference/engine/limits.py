"""What the engine takes on: the bounds of a step, how requests are weighed, and which requests could never be run."""

from __future__ import annotations

from dataclasses import dataclass

from services.inference.engine.blocks import BLOCK_TOKENS, BlockPool
from services.inference.engine.messages import AddSequence

LONGEST_BATCHING_WINDOW_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one step may hold, and who goes first."""

    max_sequences: int
    step_tokens: int  # tokens through the model in one step; at least max_sequences
    logit_rows: int  # rows of logits in one step; at least max_sequences + 1
    vocabulary_size: int
    context_tokens: int = 2**31 - 1  # the longest sequence, prompt and output together
    ageing_s: float = 5.0  # waiting for this long is worth a step of priority
    most_preemptions: int = 3  # a sequence that was pushed out so often stays until its end
    batching_window_s: float = 0.0  # while nothing runs, the first to come waits this long for company
    output_reserve_tokens: int | None = None  # blocks held for output at admission; None: for max_tokens of it
    reuses_prefixes: bool = True

    def __post_init__(self) -> None:
        if self.step_tokens < self.max_sequences or self.logit_rows <= self.max_sequences:
            raise ValueError("a step must have room for a token of each sequence and a row of logits more")
        if not 0.0 <= self.batching_window_s <= LONGEST_BATCHING_WINDOW_S:
            raise ValueError(f"batching_window_s must be in [0, {LONGEST_BATCHING_WINDOW_S}]")
        if self.output_reserve_tokens is not None and self.output_reserve_tokens < 1:
            raise ValueError("output_reserve_tokens must be at least 1")
        if self.ageing_s <= 0.0:
            raise ValueError("ageing_s must be over 0")


class Rejected(Exception):
    """A sequence that could never be run: too long for the whole pool, or not made of the model's tokens."""


def check_request(request: AddSequence, limits: Limits, pool: BlockPool) -> None:
    """Raises Rejected."""
    if not request.prompt_ids:
        raise Rejected("the prompt has no token")
    if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= limits.vocabulary_size:
        raise Rejected(f"a token id is outside the vocabulary of {limits.vocabulary_size}")
    if request.stopping.max_tokens < 1:
        raise Rejected("max_tokens is below 1")
    most_tokens = len(request.prompt_ids) + request.stopping.max_tokens
    if most_tokens > limits.context_tokens:
        raise Rejected(f"{most_tokens} tokens of prompt and output exceed the context of {limits.context_tokens}")
    if not pool.could_ever_hold(most_tokens):
        held = pool.block_count * BLOCK_TOKENS
        raise Rejected(f"{most_tokens} tokens of prompt and output exceed the KV cache of {held} tokens")
