"""The engine's loop: drain the socket, schedule, run, update, tell. It blocks on the socket whenever it is idle."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from services.inference.engine import draws
from services.inference.engine.messages import (
    Abort,
    AddSequence,
    CacheChanged,
    FlushCache,
    Flushed,
    FromEngine,
    Heartbeat,
    PinPrefix,
    PrefixPinned,
    SequenceFailed,
    Shutdown,
    StepDone,
    ToEngine,
    TokenDrawn,
)
from services.inference.engine.prefix import block_hash
from services.inference.engine.rows import Runner
from services.inference.engine.scheduler import Rejected, Scheduler
from services.inference.engine.transport import BlockingChannel

HEARTBEAT_S = 1.0
_SMOOTHING = 0.2  # weight of the newest step in the moving average

Channel = BlockingChannel[FromEngine, ToEngine]


@dataclass(frozen=True, slots=True)
class _Progress:
    step_count: int = 0
    generated_token_count: int = 0
    step_time_s: float = 0.0
    heard_of_at: float = 0.0


class Loop:
    """Runs until Shutdown or the end of the channel. `clock` gives monotonic seconds."""

    def __init__(self, channel: Channel, scheduler: Scheduler, runner: Runner, clock: Callable[[], float]) -> None:
        self._channel, self._scheduler, self._runner, self._clock = channel, scheduler, runner, clock
        self._progress = _Progress()

    def run(self) -> None:
        """Raises EndOfStream when the RPC process has gone, and whatever the model raises."""
        is_idle = False
        while self._drain(is_idle):
            is_idle = not self._step()
            self._beat()

    def _drain(self, is_idle: bool) -> bool:
        """Take in all waiting messages; waits for one while idle. False after Shutdown."""
        load_changed = False
        while self._channel.is_readable(self._patience_s() if is_idle else 0.0):
            message = self._channel.read()
            if isinstance(message, Shutdown):
                return False
            load_changed |= self._take(message)
            is_idle = False
        load_changed |= self._expire()
        self._tell_cache()
        if load_changed:
            self._tell_step([])
        return True

    def _patience_s(self) -> float:
        """How long an idle loop may wait for a message."""
        idle_s = self._scheduler.idle_s(self._clock())
        return HEARTBEAT_S if idle_s is None else min(HEARTBEAT_S, idle_s)

    def _take(self, message: AddSequence | Abort | FlushCache | PinPrefix) -> bool:
        """True if the load changed without a step."""
        if isinstance(message, Abort):
            return self._scheduler.end(message.sequence_id)
        if isinstance(message, FlushCache):
            self._flush(message)
        elif isinstance(message, PinPrefix):
            self._pin(message)
            return True
        else:
            self._add(message)
        return False

    def _add(self, message: AddSequence) -> None:
        seed = message.sampling.seed
        try:
            self._scheduler.add(message, seed=_fresh_seed() if seed is None else seed, now=self._clock())
        except Rejected as error:
            self._channel.write(SequenceFailed(sequence_id=message.sequence_id, problem=str(error)))

    def _flush(self, message: FlushCache) -> None:
        """What the flush evicted is told before its end is."""
        block_count = self._scheduler.flush()
        self._tell_cache()
        self._channel.write(Flushed(flush_id=message.flush_id, block_count=block_count))

    def _pin(self, message: PinPrefix) -> None:
        has_room = True
        if message.is_pinned:
            has_room = self._scheduler.pin(message.token_ids, message.cache_salt) > 0
        else:
            self._scheduler.unpin(message.token_ids, message.cache_salt)
        self._channel.write(PrefixPinned(pin_id=message.pin_id, has_room=has_room))

    def _expire(self) -> bool:
        """End what has no time left, before it takes part in another step. True if there was something."""
        expired = self._scheduler.expire(self._clock())
        for sequence_id in expired:
            problem = "its deadline came before its last token"
            self._channel.write(SequenceFailed(sequence_id=sequence_id, problem=problem, reason="expired"))
        return bool(expired)

    def _step(self) -> bool:
        """Schedule, run, update. False if there was nothing to do."""
        began = self._clock()
        plan = self._scheduler.plan(began)
        if plan is None:
            return False
        rows = self._runner.run(plan)
        outcome = draws.apply(plan, rows, self._scheduler, self._clock())
        self._record(began, len(outcome.tokens))
        for event in outcome.others:
            self._channel.write(event)
        self._tell_cache()
        self._tell_step(outcome.tokens)
        return True

    def _record(self, began: float, token_count: int) -> None:
        last, took = self._progress, self._clock() - began
        average = took if last.step_count == 0 else last.step_time_s + _SMOOTHING * (took - last.step_time_s)
        self._progress = replace(
            last,
            step_count=last.step_count + 1,
            generated_token_count=last.generated_token_count + token_count,
            step_time_s=average,
        )

    def _tell_step(self, tokens: list[TokenDrawn]) -> None:
        load = msgspec.structs.replace(
            self._scheduler.load(),
            step_time_s=self._progress.step_time_s,
            generated_token_count=self._progress.generated_token_count,
        )
        self._channel.write(StepDone(tokens=tokens, load=load))

    def _tell_cache(self) -> None:
        changes = self._scheduler.take_cache_changes()
        if changes is not None:
            stored, evicted = map(block_hash, changes.stored), map(block_hash, changes.evicted)
            self._channel.write(CacheChanged(stored=list(stored), evicted=list(evicted)))

    def _beat(self) -> None:
        now = self._clock()
        if now - self._progress.heard_of_at >= HEARTBEAT_S:
            self._channel.write(Heartbeat(step_count=self._progress.step_count))
            self._progress = replace(self._progress, heard_of_at=now)


def _fresh_seed() -> int:
    return int.from_bytes(os.urandom(8), "little")
