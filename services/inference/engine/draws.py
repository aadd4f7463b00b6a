"""After a step: what each chunk's rows of logits mean for its sequence, as events for the RPC process."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.inference.engine import sampler
from services.inference.engine.drawing import Wish, draw_all
from services.inference.engine.messages import PromptScored, SequenceFailed, TokenDrawn
from services.inference.engine.plan import Chunk, StepPlan
from services.inference.engine.rows import Rows
from services.inference.engine.scheduler import Scheduler
from services.inference.engine.sequence import Sequence


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a step gave."""

    tokens: list[TokenDrawn] = field(default_factory=list)
    others: list[PromptScored | SequenceFailed] = field(default_factory=list)


def apply(plan: StepPlan, rows: Rows, scheduler: Scheduler, now: float) -> Outcome:
    """Advance every sequence of the plan; one that fails ends alone."""
    outcome = Outcome()
    wishes = _advance(plan, rows, scheduler, outcome)
    drawn = draw_all(rows, wishes)
    for row, sequence in wishes:
        result = drawn[row]
        if isinstance(result, Exception):
            _fail(sequence, result, scheduler, outcome)
        else:
            outcome.tokens.append(_take(result, sequence, now))
    for token in outcome.tokens:
        if token.finish is not None:
            scheduler.end(token.sequence_id)
    return outcome


def _advance(plan: StepPlan, rows: Rows, scheduler: Scheduler, outcome: Outcome) -> list[Wish]:
    """Everything up to the draws; gives the rows to draw from, and for whom."""
    wishes: list[Wish] = []
    end = 0
    for chunk in plan.chunks:
        begin, end = end, end + chunk.logit_count
        sequence = scheduler.advance(chunk)
        if sequence is None:
            continue
        try:
            if sequence.scores_prompt:
                _score(chunk, rows.logits_RV[begin:end], sequence, outcome)
            if sequence.awaits_draw:
                wishes.append((end - 1, sequence))
        except Exception as error:
            _fail(sequence, error, scheduler, outcome)
    return wishes


def _fail(sequence: Sequence, error: Exception, scheduler: Scheduler, outcome: Outcome) -> None:
    outcome.others.append(SequenceFailed(sequence_id=sequence.sequence_id, problem=_told(error)))
    scheduler.end(sequence.sequence_id)


def _told(error: Exception) -> str:
    """What the caller hears; an error that nobody foresaw shows its words, and its stack, in the engine's log alone."""
    if isinstance(error, sampler.SamplingFailed):
        return str(error)
    traceback.print_exception(error)
    return "its tokens could not be drawn"


def _take(drawn: sampler.Draw, sequence: Sequence, now: float) -> TokenDrawn:
    is_first = sequence.drawn_count == 0
    finish = sequence.finish_after(drawn.token_id)
    queue_s, prefill_s = 0.0, 0.0
    if is_first and sequence.first_scheduled_at is not None:
        queue_s = sequence.first_scheduled_at - sequence.arrived_at
        prefill_s = now - sequence.first_scheduled_at
    sequence.token_ids.append(drawn.token_id)
    return TokenDrawn(
        sequence_id=sequence.sequence_id,
        token_id=drawn.token_id,
        finish=finish,
        logprob=drawn.logprob,
        top=drawn.top,
        queue_s=queue_s,
        prefill_s=prefill_s,
        cached_prompt_tokens=sequence.cached_prompt_count if is_first else 0,
    )


def _score(chunk: Chunk, rows_CV: NDArray[np.float32], sequence: Sequence, outcome: Outcome) -> None:
    """Row i of the chunk gives the probabilities of the prompt's token at position start + i + 1."""
    top_count = sequence.request.prompt_logprobs or 0
    following = sequence.request.prompt_ids[chunk.start + 1 : chunk.end + 1]
    for row_V, token_id in zip(rows_CV, following, strict=False):
        sequence.prompt_scores.append(sampler.score(row_V, token_id, top_count))
    if sequence.awaits_draw:
        outcome.others.append(_told_scores(sequence))


def _told_scores(sequence: Sequence) -> PromptScored:
    return PromptScored(
        sequence_id=sequence.sequence_id,
        drawn=[drawn for drawn, _ in sequence.prompt_scores],
        top=[top for _, top in sequence.prompt_scores],
    )
