"""How a stored answer is given back: at once, or each piece as long after the first as it came the first time.

Pieces are due by the time since the replay began, so a caller that reads slowly makes up for it, and no replay waits
longer than the original took. While a piece is not due yet, a cancellation by name ends the stream with CANCELLED.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from meshkit.clock import Clock
from meshkit.coalescing import Piece
from services.router.events import (
    Accepted,
    Answer,
    CacheStatus,
    Cost,
    Event,
    Finished,
    FinishReason,
    Timings,
    Usage,
)
from services.router.journal import CancelledByCaller, Running
from services.router.observer import Observer
from services.router.pricing import bill_of_hit
from services.router.question import Question


class Replays:
    """Streams of stored answers."""

    def __init__(self, *, observer: Observer, clock: Clock) -> None:
        self._observer = observer
        self._clock = clock

    async def events(
        self, question: Question, answer: Answer, accepted: Accepted, running: Running, timings: Timings
    ) -> AsyncGenerator[Event, None]:
        """The whole stream of a hit."""
        self._observer.accepted(accepted)
        yield accepted
        timings.first_token_s = self._since_arrival(question)
        self._observer.first_token(timings.first_token_s)
        sent_token_count, is_cancelled = 0, False
        try:
            async with contextlib.aclosing(self._pieces(answer, running, question.replays_paced)) as pieces:
                async for piece in pieces:
                    yield piece
                    sent_token_count += piece.token_count
        except CancelledByCaller:
            is_cancelled = True
        timings.total_s = self._since_arrival(question)
        finished = (
            _cut_off(answer, sent_token_count, timings, question) if is_cancelled else _whole(answer, timings, question)
        )
        try:
            yield finished
        finally:
            self._observer.finished(question, accepted, finished)

    async def _pieces(self, answer: Answer, running: Running, is_paced: bool) -> AsyncGenerator[Piece, None]:
        began_at = self._clock.now()
        longest_s = answer.pieces[-1][0] if answer.pieces else 0.0
        for offset_s, piece in answer.pieces:
            early_s = began_at + min(offset_s, longest_s) - self._clock.now()
            if is_paced and early_s > 0:
                with running.interruptible():
                    await self._clock.sleep(early_s)
            yield piece

    def _since_arrival(self, question: Question) -> float:
        return self._clock.now() - question.arrived_at


def accepted_hit(decision_id: str, answer: Answer, *, is_stale: bool) -> Accepted:
    """The decision to give a stored answer."""
    return Accepted(
        decision_id=decision_id,
        model=answer.model,
        tier=answer.tier,
        instance="",
        revision=answer.revision,
        cache_status=CacheStatus.HIT,
        compression=None,
        is_stale=is_stale,
    )


def _whole(answer: Answer, timings: Timings, question: Question) -> Finished:
    return Finished(
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        timings=timings,
        cost=bill_of_hit(answer.cost_micro_usd),
        trace_id=question.trace_id,
    )


def _cut_off(answer: Answer, sent_token_count: int, timings: Timings, question: Question) -> Finished:
    """What a part of an answer would have cost is not known, so nothing is claimed as saved."""
    return Finished(
        finish_reason=FinishReason.CANCELLED,
        usage=Usage(prompt_tokens=answer.usage.prompt_tokens, completion_tokens=sent_token_count),
        timings=timings,
        cost=Cost(),
        trace_id=question.trace_id,
    )
