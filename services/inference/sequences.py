"""The open sequences of one engine life: who gets which event, and how many there may be."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from meshkit.errors import BackendDown, DeadlineExceeded, Internal, MeshError, Overloaded
from services.inference.engine.messages import Abort, AddSequence, SequenceFailed, ToEngine, TokenDrawn
from services.inference.engine_port import SequenceEvent, SequenceSpec

Send = Callable[[ToEngine], None]
_EVENTS_BESIDE_TOKENS = 2


class Sequences:
    """A table of streams. Sequence ids are never used twice, so that a late event of an aborted one meets nobody."""

    def __init__(self, *, most: int, retry_after_s: float) -> None:
        self._most = most
        self._retry_after_s = retry_after_s
        self._streams: dict[int, QueuedStream] = {}
        self._ids = itertools.count(1)

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, spec: SequenceSpec, send: Send) -> QueuedStream:
        """Send the sequence to the engine; raises Overloaded while the table is full."""
        if len(self._streams) >= self._most:
            raise Overloaded(f"{self._most} sequences run or wait here already", retry_after_s=self._retry_after_s)
        sequence_id = next(self._ids)
        stream = QueuedStream(sequence_id, spec.stopping.max_tokens, lambda: self._close(sequence_id, send))
        self._streams[sequence_id] = stream
        send(_as_message(sequence_id, spec))
        return stream

    def give(self, event: SequenceEvent) -> None:
        """Hand an event to its stream; events of closed sequences go nowhere."""
        if (stream := self._streams.get(event.sequence_id)) is None:
            return
        stream.give(event)
        if isinstance(event, TokenDrawn) and event.finish is not None:
            del self._streams[event.sequence_id]

    def fail(self, failed: SequenceFailed) -> None:
        """End one sequence that the engine gave up."""
        if (stream := self._streams.pop(failed.sequence_id, None)) is not None:
            is_late = failed.reason == "expired"
            stream.fail((DeadlineExceeded if is_late else Internal)(f"the engine gave a sequence up: {failed.problem}"))

    def fail_all(self, told: str) -> None:
        """The engine is gone: every stream ends with BackendDown, which tells callers this."""
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.fail(BackendDown(told))

    def _close(self, sequence_id: int, send: Send) -> None:
        if self._streams.pop(sequence_id, None) is not None:
            send(Abort(sequence_id=sequence_id))


class QueuedStream:
    """A SequenceStream fed by the table. Its queue is bounded by the sequence's own `max_tokens`."""

    def __init__(self, sequence_id: int, max_tokens: int, on_close: Callable[[], None]) -> None:
        self.sequence_id = sequence_id
        self._events: asyncio.Queue[SequenceEvent | MeshError] = asyncio.Queue(max_tokens + _EVENTS_BESIDE_TOKENS)
        self._on_close = on_close

    def give(self, event: SequenceEvent) -> None:
        self._events.put_nowait(event)

    def fail(self, error: MeshError) -> None:
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(error)

    async def next_event(self) -> SequenceEvent:
        event = await self._events.get()
        if isinstance(event, MeshError):
            raise event
        return event

    def close(self) -> None:
        self._on_close()


def _as_message(sequence_id: int, spec: SequenceSpec) -> AddSequence:
    return AddSequence(
        sequence_id=sequence_id,
        prompt_ids=spec.prompt_ids,
        sampling=spec.sampling,
        stopping=spec.stopping,
        priority=spec.priority,
        logprobs=spec.logprobs,
        prompt_logprobs=spec.prompt_logprobs,
        cache_salt=spec.cache_salt,
        deadline_s=spec.deadline_s,
    )
