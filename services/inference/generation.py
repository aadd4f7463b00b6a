"""One request in progress: its sequences are opened, drawn from, joined into pieces, and always closed.

Events come in the order Started, Piece ..., Ended. A request that was aborted ends with Ended and reason `cancelled`;
one whose engine died, or that a drain gave up, ends with the error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from meshkit.clock import Clock
from meshkit.coalescing import Coalescer, Outbox, Piece
from meshkit.errors import BackendDown
from services.inference.answer import Answer, PositionScores, prompt_scores
from services.inference.engine.blocks import BLOCK_TOKENS
from services.inference.engine.messages import FinishReason, PromptScored, TokenDrawn
from services.inference.engine.prefix import PrefixChain, block_hash
from services.inference.engine_port import Engine, SequenceStream
from services.inference.text import TextModel
from services.inference.validation import CheckedRequest

MOST_HASHES_TOLD = 512
HASHES_BETWEEN_YIELDS = 128
"""About half a millisecond of the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The sequences wait for their first step."""

    request_id: str
    prompt_token_count: int
    prompt_scores: tuple[PositionScores, ...]
    block_hashes: tuple[int, ...] = ()
    """Of the prompt's first whole blocks, where they were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The answer is whole. Times are seconds; `first_token_s` and `total_s` count from the request's arrival."""

    finish_reason: FinishReason
    stop_matched: str
    prompt_token_count: int
    cached_prompt_token_count: int
    completion_token_count: int
    queue_s: float
    prefill_s: float
    first_token_s: float
    decode_s: float
    total_s: float


@dataclass(slots=True, kw_only=True)
class _Marks:
    """Moments and counts of one request, filled as they come."""

    arrived_at: float
    first_drawn_at: float | None = None
    last_drawn_at: float = 0.0
    first_sent_at: float | None = None
    sent_token_count: int = 0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    cached_prompt_token_count: int = 0
    is_cancelled: bool = False
    scores: tuple[PositionScores, ...] = field(default=())


class Generation:
    """Runs a checked request. `events` may be iterated once; closing it early frees everything."""

    def __init__(
        self,
        request: CheckedRequest,
        *,
        engine: Engine,
        text: TextModel,
        clock: Clock,
        coalescer: Coalescer,
        arrived_at: float,
    ) -> None:
        self.request = request
        self._engine = engine
        self._text = text
        self._clock = clock
        self._outbox = Outbox(coalescer, clock)
        self._answers = [Answer(index, request, text) for index in range(request.answer_count)]
        self._running_count = request.answer_count
        self._are_scored = asyncio.Event()
        self._marks = _Marks(arrived_at=arrived_at)

    async def events(self) -> AsyncGenerator[Started | Piece | Ended, None]:
        """Raises Overloaded or NotReady before the first event, BackendDown (with what was sent) or Internal later."""
        streams: list[SequenceStream] = []
        drawing: list[asyncio.Task[None]] = []
        try:
            for answer in self._answers:  # one by one: the opened ones are closed if a later one is refused
                streams += [self._engine.open(self.request.sequence(answer.index))]
            pairs = zip(self._answers, streams, strict=True)
            drawing = [asyncio.create_task(self._draw(answer, stream)) for answer, stream in pairs]
            yield await self._started()
            async for batch in self._outbox.batches():
                for piece in batch:
                    self._mark_sent(piece)
                    yield piece
        except BackendDown as problem:
            raise BackendDown(problem.cause, sent_token_count=self._marks.sent_token_count) from problem
        finally:
            for stream in streams:
                stream.close()
            for task in drawing:
                task.cancel()
            await asyncio.gather(*drawing, return_exceptions=True)
        yield self._ended()

    def cancel(self) -> None:
        """End with what there is; the reason is `cancelled`."""
        self._marks.is_cancelled = True
        self._are_scored.set()
        self._outbox.end()

    def give_up(self, error: Exception) -> None:
        """End with an error."""
        self._are_scored.set()
        self._outbox.fail(error)

    async def _started(self) -> Started:
        if self.request.spec.prompt_logprobs is not None:
            await self._are_scored.wait()
        if self.request.output.echo:
            shown = self._text.decode(self.request.spec.prompt_ids)
            for answer in self._answers:
                self._outbox.put(Piece(index=answer.index, text=shown))
        return Started(
            request_id=self.request.request_id,
            prompt_token_count=len(self.request.spec.prompt_ids),
            prompt_scores=self._marks.scores,
            block_hashes=await self._block_hashes() if self.request.output.block_hashes else (),
        )

    async def _block_hashes(self) -> tuple[int, ...]:
        spec = self.request.spec
        chain, hashes = PrefixChain(spec.cache_salt), []
        for index in range(min(MOST_HASHES_TOLD, len(spec.prompt_ids) // BLOCK_TOKENS)):
            hashes.append(block_hash(chain.at(index, spec.prompt_ids)))
            if len(hashes) % HASHES_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)
        return tuple(hashes)

    async def _draw(self, answer: Answer, stream: SequenceStream) -> None:
        try:
            while answer.finish_reason is None:
                event = await stream.next_event()
                if isinstance(event, PromptScored):
                    self._take_scores(event)
                else:
                    self._mark_drawn(event)
                    self._outbox.put(answer.add(event))
        except Exception as problem:  # whatever it is, the consumer must hear it
            self.give_up(problem)
        finally:
            stream.close()
        self._running_count -= 1
        if self._running_count == 0:
            self._outbox.end()

    def _take_scores(self, scored: PromptScored) -> None:
        if not self._are_scored.is_set():
            self._marks.scores = prompt_scores(scored, self._text)
            self._are_scored.set()

    def _mark_drawn(self, drawn: TokenDrawn) -> None:
        marks = self._marks
        marks.last_drawn_at = self._clock.now()
        if marks.first_drawn_at is None:
            marks.first_drawn_at = marks.last_drawn_at
            marks.queue_s, marks.prefill_s = drawn.queue_s, drawn.prefill_s
            marks.cached_prompt_token_count = drawn.cached_prompt_tokens

    def _mark_sent(self, piece: Piece) -> None:
        self._marks.sent_token_count += piece.token_count
        if self._marks.first_sent_at is None and piece.token_count:
            self._marks.first_sent_at = self._clock.now()

    def _ended(self) -> Ended:
        marks, now = self._marks, self._clock.now()
        first_drawn_at = marks.first_drawn_at if marks.first_drawn_at is not None else marks.last_drawn_at
        first_sent_at = marks.first_sent_at if marks.first_sent_at is not None else marks.first_drawn_at
        return Ended(
            finish_reason=self._finish_reason(),
            stop_matched=next((answer.stop_matched for answer in self._answers if answer.stop_matched), ""),
            prompt_token_count=len(self.request.spec.prompt_ids),
            cached_prompt_token_count=marks.cached_prompt_token_count,
            completion_token_count=sum(answer.token_count for answer in self._answers),
            queue_s=marks.queue_s,
            prefill_s=marks.prefill_s,
            first_token_s=first_sent_at - marks.arrived_at if first_sent_at is not None else 0.0,
            decode_s=marks.last_drawn_at - first_drawn_at,
            total_s=now - marks.arrived_at,
        )

    def _finish_reason(self) -> FinishReason:
        """Of several answers: `length` if one of them was cut."""
        reasons = {answer.finish_reason for answer in self._answers}
        if self._marks.is_cancelled or reasons == {None}:
            return "cancelled"
        return "length" if "length" in reasons else "stop"
