"""The real engine as streams see it: sequences go down to its process, tokens come up, a supervisor keeps it alive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from meshkit.clock import Clock
from meshkit.errors import NotReady
from services.inference.awaited import Awaited
from services.inference.changes import Watched
from services.inference.engine.messages import (
    CacheChanged,
    FlushCache,
    Flushed,
    FromEngine,
    Load,
    PrefixPinned,
    PromptScored,
    Ready,
    SequenceFailed,
    StepDone,
    ToEngine,
)
from services.inference.engine_port import LoadReading, ReadinessListener, SequenceSpec, SequenceStream
from services.inference.engine_process import EngineProcess
from services.inference.kv_events import KvEventLog
from services.inference.pinned_prefixes import Prefix
from services.inference.pins import Pins
from services.inference.sequences import Sequences
from services.inference.supervisor import Patience, Supervisor

_STOPPING = "this instance is stopping"
_STOPPED = "the engine stopped and is being started again"


class EngineClient:
    """An Engine in a process of its own."""

    def __init__(
        self,
        launch: Callable[[], Awaitable[EngineProcess]],
        clock: Clock,
        patience: Patience,
        *,
        most_sequences: int,
        retry_after_s: float = 1.0,
        requeue_s: float = 0.0,
    ) -> None:
        self._supervisor = Supervisor(launch, self, clock, patience)
        self._sequences = Sequences(
            most=most_sequences, retry_after_s=retry_after_s, requeue_s=requeue_s, now=clock.now
        )
        self._flushes: Awaited[int] = Awaited()
        self._pins = Pins()
        self.kv_events = KvEventLog(wall_s=clock.wall())
        self._send: Callable[[ToEngine], None] | None = None
        self._facts: Ready | None = None
        self._load = Watched(LoadReading())
        self._listeners: list[ReadinessListener] = []

    @property
    def facts(self) -> Ready | None:
        return self._facts

    @property
    def is_ready(self) -> bool:
        return self._send is not None

    async def start(self) -> Ready:
        return await self._supervisor.start()

    def on_readiness(self, listener: ReadinessListener) -> None:
        self._listeners.append(listener)

    def open(self, spec: SequenceSpec) -> SequenceStream:
        if self._send is None:
            raise NotReady("the engine is starting")
        return self._sequences.open(spec, self._send)

    def load(self) -> LoadReading:
        return self._load.value

    async def load_changed(self) -> None:
        await self._load.changed()

    async def flush_cache(self) -> int:
        if self._send is None:
            raise NotReady("the engine is starting")
        send = self._send
        return await self._flushes.ask(lambda flush_id: send(FlushCache(flush_id=flush_id)))

    async def pin_prefix(self, prefix: Prefix, *, is_pinned: bool) -> None:
        if self._send is None or self._facts is None:
            raise NotReady("the engine is starting")
        if is_pinned:
            await self._pins.pin(prefix, self._send, cache_tokens=self._facts.kv_total_tokens)
        else:
            await self._pins.unpin(prefix, self._send)

    async def close(self) -> None:
        await self._supervisor.close()
        self._sequences.fail_all(_STOPPING)
        self._go_down(_STOPPING)

    def engine_up(self, ready: Ready, send: Callable[[ToEngine], None]) -> None:
        """For the supervisor: a new life began."""
        self._facts, self._send = ready, send
        fresh = Load(kv_total_tokens=ready.kv_total_tokens)
        generation = self._load.value.generation + 1
        self._load.set(LoadReading(load=fresh, generation=generation, max_running_count=ready.max_running_count))
        self._pins.resume(send)
        self._sequences.resume(send)
        self._tell(True)

    def engine_said(self, message: FromEngine) -> None:
        """For the supervisor: the engine spoke."""
        if isinstance(message, StepDone):
            for token in message.tokens:
                self._sequences.give(token)
            self._note(message.load)
        elif isinstance(message, PromptScored):
            self._sequences.give(message)
        elif isinstance(message, SequenceFailed):
            self._sequences.fail(message)
        elif isinstance(message, CacheChanged):
            self.kv_events.note(stored=message.stored, evicted=message.evicted)
        elif isinstance(message, Flushed):
            self._flushes.answer(message.flush_id, message.block_count)
        elif isinstance(message, PrefixPinned):
            self._pins.answer(message)

    def engine_down(self) -> None:
        """For the supervisor: a life is over. Why is no business of callers; what may wait for the next one does."""
        self._go_down(_STOPPED)

    def _go_down(self, told: str) -> None:
        was_ready, self._send = self.is_ready, None
        self._sequences.set_aside(told)
        self._flushes.fail_all(told)
        self._pins.fail_all(told)
        self.kv_events.clear()
        if was_ready:
            self._note(Load(waiting_count=len(self._sequences)))
            self._tell(False)

    def _note(self, load: Load) -> None:
        reading = self._load.value
        if msgspec.structs.replace(load, step_time_s=reading.load.step_time_s) != reading.load:
            self._load.set(
                LoadReading(load=load, generation=reading.generation, max_running_count=reading.max_running_count)
            )

    def _tell(self, is_ready: bool) -> None:
        for listener in self._listeners:
            listener(is_ready)
