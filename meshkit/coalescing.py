"""When the pieces of a token stream are sent: the first at once, later ones joined for a moment.

A gRPC message costs about 60 us, a token far less, so tokens that come close together travel together. The rule: what
is held goes when the last message is `interval_s` old, or when `max_tokens` are held. So a token is never held longer
than `interval_s`, and tokens that come slower than that are not held at all. `Coalescer` is the rule on plain data;
`Outbox` lets producers put pieces and one consumer await what is due. Both know nothing of gRPC or models.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from meshkit.clock import Clock

FLUSH_INTERVAL_S = 0.015
FLUSH_TOKEN_COUNT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What was added to one answer. The tuples' elements are the user's own; they are joined, never read."""

    index: int = 0
    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[object, ...] = ()
    tool_calls: tuple[object, ...] = ()
    token_count: int = 0


class Coalescer:
    """Holds pieces of one stream and says when they are due. Answers (`Piece.index`) are never mixed."""

    def __init__(self, *, interval_s: float = FLUSH_INTERVAL_S, max_tokens: int = FLUSH_TOKEN_COUNT) -> None:
        self._interval_s = interval_s
        self._max_tokens = max_tokens
        self._held: dict[int, list[Piece]] = {}
        self._held_token_count = 0
        self._started: set[int] = set()
        self._is_urgent = False
        self._last_flush_at = float("-inf")

    def add(self, piece: Piece) -> None:
        """Hold a piece; an answer's first one makes everything held due at once."""
        self._held.setdefault(piece.index, []).append(piece)
        self._held_token_count += piece.token_count
        if piece.index not in self._started:
            self._started.add(piece.index)
            self._is_urgent = True

    def due_at(self) -> float | None:
        """When what is held must go (it may be in the past); None while nothing is held."""
        if not self._held:
            return None
        if self._is_urgent or self._held_token_count >= self._max_tokens:
            return float("-inf")
        return self._last_flush_at + self._interval_s

    def flush(self, now: float) -> list[Piece]:
        """Give up what is held: one piece for each answer that grew."""
        pieces = [_join(parts) for parts in self._held.values()]
        self._held = {}
        self._held_token_count = 0
        self._is_urgent = False
        self._last_flush_at = now
        return pieces


class Outbox:
    """Between the producers of one stream and its one consumer. `put`, `end` and `fail` never wait.

    What is held is bounded by what the producers put, so a producer must itself be bounded (a sequence is, by its
    `max_tokens`). A slow consumer gets fewer, larger pieces.
    """

    def __init__(self, coalescer: Coalescer, clock: Clock) -> None:
        self._coalescer = coalescer
        self._clock = clock
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False
        self._failure: BaseException | None = None

    def put(self, piece: Piece) -> None:
        """Hand over a piece."""
        self._coalescer.add(piece)
        self._schedule()

    def end(self) -> None:
        """Nothing more comes; what is held goes now."""
        self._has_ended = True
        self._wake.set()

    def fail(self, failure: BaseException) -> None:
        """Nothing more comes; the consumer gets what is held, then this error."""
        if self._failure is None:
            self._failure = failure
        self.end()

    async def batches(self) -> AsyncGenerator[list[Piece], None]:
        """Lists of pieces as they become due, until the end or the failure."""
        try:
            while not self._has_ended:
                await self._wake.wait()
                self._wake.clear()
                if self._is_due():
                    yield self._coalescer.flush(self._clock.now())
                self._schedule()
            if pieces := self._coalescer.flush(self._clock.now()):
                yield pieces
        finally:
            self._drop_timer()
        if self._failure is not None:
            raise self._failure

    def _is_due(self) -> bool:
        due_at = self._coalescer.due_at()
        return due_at is not None and due_at <= self._clock.now()

    def _schedule(self) -> None:
        due_at = self._coalescer.due_at()
        if due_at is None:
            return
        wait_s = due_at - self._clock.now()
        if wait_s <= 0:
            self._drop_timer()
            self._wake.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake.set()

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _join(parts: list[Piece]) -> Piece:
    if len(parts) == 1:
        return parts[0]
    return Piece(
        index=parts[0].index,
        text="".join(part.text for part in parts),
        token_ids=tuple(token_id for part in parts for token_id in part.token_ids),
        logprobs=tuple(logprob for part in parts for logprob in part.logprobs),
        tool_calls=tuple(call for part in parts for call in part.tool_calls),
        token_count=sum(part.token_count for part in parts),
    )
