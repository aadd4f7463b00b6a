"""The open sequences of an engine: who gets which event, how many there may be, and who outlives an engine's life.

When an engine dies, what it had begun to answer ends. A sequence without an event may wait for the next life, once: a
request that killed an engine must not kill one after the other.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from meshkit.errors import BackendDown, DeadlineExceeded, Internal, Overloaded
from services.inference.engine.messages import AddSequence, SequenceFailed, TokenDrawn
from services.inference.engine_port import SequenceEvent, SequenceSpec
from services.inference.queued_stream import QueuedStream, Send


class Sequences:
    """A table of streams. Sequence ids are never used twice, so that a late event of an aborted one meets nobody.

    `requeue_s`: how long a sequence may wait for the next life of the engine; 0: none does.
    """

    def __init__(
        self,
        *,
        most: int,
        retry_after_s: float,
        requeue_s: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._retry_after_s = retry_after_s
        self._requeue_s = requeue_s
        self._now = now
        self._streams: dict[int, QueuedStream] = {}
        self._ids = itertools.count(1)

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, spec: SequenceSpec, send: Send) -> QueuedStream:
        """Send the sequence to the engine; raises Overloaded while the table is full."""
        if len(self._streams) >= self._most:
            raise Overloaded(f"{self._most} sequences run or wait here already", retry_after_s=self._retry_after_s)
        message = _as_message(next(self._ids), spec)
        stream = QueuedStream(message, send, self._forget, self._now)
        self._streams[stream.sequence_id] = stream
        send(message)
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
        """The engine is gone for good: every stream ends with BackendDown, which tells callers this."""
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.fail(BackendDown(told))

    def set_aside(self, told: str) -> None:
        """The engine is gone: what may wait for the next life does; all else ends as in `fail_all`."""
        for stream in self._streams.values():
            if self._requeue_s > 0 and stream.may_wait:
                stream.wait(self._requeue_s, BackendDown(told))
        waiting = {stream.sequence_id: stream for stream in self._streams.values() if stream.is_waiting}
        self._streams = {key: stream for key, stream in self._streams.items() if key not in waiting}
        self.fail_all(told)
        self._streams = waiting

    def resume(self, send: Send) -> None:
        """A new life began: send it what has waited."""
        for stream in list(self._streams.values()):
            stream.resume(send)

    def _forget(self, sequence_id: int) -> bool:
        """False if it was not here any more."""
        return self._streams.pop(sequence_id, None) is not None


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
        ttft_slo_s=spec.ttft_slo_s,
    )
