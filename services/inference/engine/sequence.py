"""One sequence inside the engine: its tokens, its blocks, and the questions that the scheduler asks it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from services.inference.engine.messages import AddSequence, FinishReason, TokenLogprob
from services.inference.engine.prefix import PrefixChain


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """State of one accepted request; mutated by the scheduler, and by what draws its tokens."""

    request: AddSequence
    seed: int
    arrived_at: float
    token_ids: list[int]  # prompt, then what was drawn
    precedence: tuple[float, int] = (0.0, 0)  # the lowest goes first; see `precedence`
    chain: PrefixChain = field(default_factory=lambda: PrefixChain(""))
    computed_count: int = 0  # tokens whose keys and values lie in the cache
    peak_count: int = 0  # the most that ever did: computing those again is waste
    block_ids: list[int] = field(default_factory=list)  # replaced, never changed in place: plans hold on to it
    promised_count: int = 0  # blocks that it may still take
    cache_epoch: int = 0  # of the pool, when it was admitted
    cached_prompt_count: int = 0
    preemption_count: int = 0
    first_scheduled_at: float | None = None
    prompt_scores: list[tuple[TokenLogprob, list[TokenLogprob]]] = field(default_factory=list)

    @property
    def sequence_id(self) -> int:
        return self.request.sequence_id

    @property
    def prompt_count(self) -> int:
        return len(self.request.prompt_ids)

    @property
    def drawn_count(self) -> int:
        return len(self.token_ids) - self.prompt_count

    @property
    def drawn_ids(self) -> list[int]:
        return self.token_ids[self.prompt_count :]

    @property
    def most_tokens(self) -> int:
        """The longest that this sequence can become."""
        return self.prompt_count + self.request.stopping.max_tokens

    @property
    def expires_at(self) -> float:
        return self.arrived_at + (math.inf if self.request.deadline_s is None else self.request.deadline_s)

    @property
    def pending_count(self) -> int:
        """Tokens that have not been through the model: the rest of the prompt, what a preemption lost, the last."""
        return len(self.token_ids) - self.computed_count

    @property
    def awaits_draw(self) -> bool:
        """Whether everything known of it lies in the cache, so that the last token's logits give the next one."""
        return self.computed_count == len(self.token_ids)

    @property
    def scores_prompt(self) -> bool:
        """Whether the prompt's log-probabilities are still to be told; they come before the first token."""
        return self.request.prompt_logprobs is not None and self.drawn_count == 0

    @property
    def must_not_stop_yet(self) -> bool:
        return self.drawn_count < self.request.stopping.min_tokens

    def finish_after(self, token_id: int) -> FinishReason | None:
        """Why the sequence ends if `token_id` is drawn next; None if it goes on."""
        stopping = self.request.stopping
        if token_id in stopping.stop_token_ids and not self.must_not_stop_yet:
            return "stop"
        if self.drawn_count + 1 >= stopping.max_tokens:
            return "length"
        return None
