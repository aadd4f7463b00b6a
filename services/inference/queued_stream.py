"""One sequence's stream, fed by the table of open ones; it may outlive an engine, and waits for the next one then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from meshkit.errors import DeadlineExceeded, MeshError
from services.inference.engine.messages import Abort, AddSequence, PromptScored, ToEngine, TokenDrawn
from services.inference.engine_port import SequenceEvent

Send = Callable[[ToEngine], None]
_ITEMS_BESIDE_TOKENS = 4
_LATE = "its deadline came while the engine was being started again"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wait:
    """Until then the engine has to be back, else the stream ends with this."""

    until: float
    error: MeshError


class _GoOn:
    """The engine is back."""


class QueuedStream:
    """A SequenceStream fed by the table. Its queue is bounded by the sequence's own `max_tokens`."""

    def __init__(
        self, message: AddSequence, send: Send, forget: Callable[[int], bool], now: Callable[[], float]
    ) -> None:
        self.sequence_id = message.sequence_id
        self.may_wait = True
        """For the next life of the engine: no event has come yet, and it has not waited before."""
        self._message = message
        self._send: Send | None = send
        self._forget = forget
        self._now = now
        self._opened_at = now()
        capacity = message.stopping.max_tokens + _ITEMS_BESIDE_TOKENS
        self._items: asyncio.Queue[SequenceEvent | MeshError | _Wait | _GoOn] = asyncio.Queue(capacity)

    @property
    def is_waiting(self) -> bool:
        """For the next life; no engine knows of it."""
        return self._send is None

    def give(self, event: SequenceEvent) -> None:
        self.may_wait = False
        self._items.put_nowait(event)

    def fail(self, error: MeshError) -> None:
        if self._items.full():
            self._items.get_nowait()
        self._items.put_nowait(error)

    def wait(self, patience_s: float, error: MeshError) -> None:
        """Say nothing until `resume`; give up with the error after this time, or at the deadline."""
        self.may_wait, self._send = False, None
        until, left_s = self._now() + patience_s, self._left(self._message.deadline_s)
        if left_s is not None and left_s < patience_s:
            until, error = self._now() + left_s, DeadlineExceeded(_LATE)
        self._items.put_nowait(_Wait(until=until, error=error))

    def resume(self, send: Send) -> None:
        """Send the sequence again, with what is left of its time."""
        deadline_s = self._left(self._message.deadline_s)
        if deadline_s is not None and deadline_s <= 0.0:
            return  # its wait is over too, whoever reads it first
        self._send = send
        self._items.put_nowait(_GoOn())
        ttft_slo_s = self._left(self._message.ttft_slo_s)
        send(msgspec.structs.replace(self._message, deadline_s=deadline_s, ttft_slo_s=ttft_slo_s))

    async def next_event(self) -> SequenceEvent:
        while True:
            item = await self._items.get()
            if isinstance(item, _Wait):
                item = await self._next_within(item)
            if isinstance(item, MeshError):
                raise item
            if isinstance(item, TokenDrawn | PromptScored):
                return item

    def close(self) -> None:
        if self._forget(self.sequence_id) and self._send is not None:
            self._send(Abort(sequence_id=self.sequence_id))

    async def _next_within(self, wait: _Wait) -> SequenceEvent | MeshError | _Wait | _GoOn:
        try:
            async with asyncio.timeout(max(0.0, wait.until - self._now())):
                return await self._items.get()
        except TimeoutError:
            return wait.error

    def _left(self, span_s: float | None) -> float | None:
        """Of a time that began when the sequence was opened."""
        return None if span_s is None else span_s - (self._now() - self._opened_at)
