"""After a step: what each chunk's rows of logits mean for its sequence, as events for the RPC process."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

from torch import Tensor

from services.inference.engine import sampler
from services.inference.engine.messages import PromptScored, SequenceFailed, TokenDrawn
from services.inference.engine.plan import Chunk, StepPlan
from services.inference.engine.scheduler import Scheduler
from services.inference.engine.sequence import Sequence


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a step gave."""

    tokens: list[TokenDrawn] = field(default_factory=list)
    others: list[PromptScored | SequenceFailed] = field(default_factory=list)


def apply(plan: StepPlan, logits_RV: Tensor, scheduler: Scheduler, now: float) -> Outcome:
    """Advance every sequence of the plan; one that fails ends alone."""
    outcome, row = Outcome(), 0
    for chunk in plan.chunks:
        rows_CV = logits_RV[row : row + chunk.logit_count]
        row += chunk.logit_count
        sequence = scheduler.advance(chunk)
        if sequence is None:
            continue
        try:
            _apply_chunk(chunk, rows_CV, sequence, outcome, now)
        except Exception as error:
            outcome.others.append(SequenceFailed(sequence_id=chunk.sequence_id, problem=_told(error)))
            scheduler.end(chunk.sequence_id)
    for token in outcome.tokens:
        if token.finish is not None:
            scheduler.end(token.sequence_id)
    return outcome


def _told(error: Exception) -> str:
    """What the caller hears; an error that nobody foresaw shows its words, and its stack, in the engine's log alone."""
    if isinstance(error, sampler.SamplingFailed):
        return str(error)
    traceback.print_exception(error)
    return "its tokens could not be drawn"


def _apply_chunk(chunk: Chunk, rows_CV: Tensor, sequence: Sequence, outcome: Outcome, now: float) -> None:
    if sequence.scores_prompt and chunk.start < sequence.prompt_count:
        _score_prompt(chunk, rows_CV, sequence)
    if not sequence.awaits_draw:
        return
    first = sequence.drawn_count == 0
    if first and sequence.scores_prompt:
        outcome.others.append(_scored(sequence))
    outcome.tokens.append(_draw(rows_CV[-1], sequence, now if first else None))


def _draw(row_V: Tensor, sequence: Sequence, first_token_at: float | None) -> TokenDrawn:
    drawn = sampler.draw(row_V, sequence)
    finish = sequence.finish_after(drawn.token_id)
    queue_s, prefill_s = 0.0, 0.0
    if first_token_at is not None and sequence.first_scheduled_at is not None:
        queue_s = sequence.first_scheduled_at - sequence.arrived_at
        prefill_s = first_token_at - sequence.first_scheduled_at
    sequence.token_ids.append(drawn.token_id)
    return TokenDrawn(
        sequence_id=sequence.sequence_id,
        token_id=drawn.token_id,
        finish=finish,
        logprob=drawn.logprob,
        top=drawn.top,
        queue_s=queue_s,
        prefill_s=prefill_s,
        cached_prompt_tokens=0 if first_token_at is None else sequence.cached_prompt_count,
    )


def _score_prompt(chunk: Chunk, rows_CV: Tensor, sequence: Sequence) -> None:
    """Row i of the chunk gives the probabilities of the token at position start + i + 1."""
    top_count = sequence.request.prompt_logprobs or 0
    following = sequence.request.prompt_ids[chunk.start + 1 : chunk.end + 1]
    for row_V, token_id in zip(rows_CV, following, strict=False):
        sequence.prompt_scores.append(sampler.score(row_V, token_id, top_count))


def _scored(sequence: Sequence) -> PromptScored:
    return PromptScored(
        sequence_id=sequence.sequence_id,
        drawn=[drawn for drawn, _ in sequence.prompt_scores],
        top=[top for _, top in sequence.prompt_scores],
    )
