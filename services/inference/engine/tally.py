"""Running totals of what steps computed, for the prefix hit ratio and batch efficiency."""

from __future__ import annotations

from dataclasses import dataclass

from services.inference.engine.plan import Chunk
from services.inference.engine.sequence import Sequence


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts since the engine's start."""

    computed_slot_count: int = 0
    useful_token_count: int = 0
    prompt_token_count: int = 0
    cached_prompt_token_count: int = 0
    preemption_count: int = 0

    def note_admitted(self, sequence: Sequence) -> None:
        """Its prompt counts once, however often it is pushed out."""
        if not sequence.preemption_count:
            self.prompt_token_count += sequence.prompt_count

    def note_reused(self, sequence: Sequence, token_count: int) -> None:
        """Finding its own tokens again after it was pushed out is no hit."""
        if not sequence.preemption_count:
            sequence.cached_prompt_count += token_count
            self.cached_prompt_token_count += token_count

    def note_computed(self, chunk: Chunk, sequence: Sequence | None) -> None:
        """Tokens of a sequence that has ended, and those computed before, were computed in vain."""
        self.computed_slot_count += len(chunk.token_ids)
        if sequence is not None and chunk.end > sequence.peak_count:
            self.useful_token_count += chunk.end - max(chunk.start, sequence.peak_count)
            sequence.peak_count = chunk.end

    def note_preempted(self) -> None:
        self.preemption_count += 1
