"""One sequence inside the engine: its tokens, its blocks, and the questions that the scheduler asks it."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.inference.engine.messages import AddSequence, FinishReason, TokenLogprob


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """State of one admitted request; mutated only by the scheduler's `update`."""

    request: AddSequence
    seed: int
    arrived_at: float
    token_ids: list[int]  # prompt, then what was drawn
    computed_count: int = 0  # tokens whose keys and values lie in the cache
    block_ids: list[int] = field(default_factory=list)
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
    def pending_count(self) -> int:
        """Tokens that have not been through the model: the rest of the prompt, or the one drawn last."""
        return len(self.token_ids) - self.computed_count

    @property
    def is_prefilling(self) -> bool:
        return self.computed_count < self.prompt_count

    @property
    def scores_prompt(self) -> bool:
        return self.request.prompt_logprobs is not None

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
