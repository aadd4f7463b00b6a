"""A test double that answers with the prompt, at once or at a set pace: for tests, and benchmarks of all else.

The answer is the prompt's tokens, over and over with `ignore_eos`, else once and then an end; `max_tokens` cuts both.
Nothing is computed, so its rates say nothing about a model.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from meshkit.clock import Clock
from meshkit.errors import NotReady, Overloaded
from services.inference.changes import Watched
from services.inference.echo_cache import EchoCache
from services.inference.engine.messages import (
    AddSequence,
    FinishReason,
    Load,
    PromptScored,
    Ready,
    TokenDrawn,
    TokenLogprob,
)
from services.inference.engine_port import LoadReading, ReadinessListener, SequenceEvent, SequenceSpec, SequenceStream
from services.inference.kv_events import KvEventLog
from services.inference.pinned_prefixes import PinnedPrefixes, Prefix, no_room

TOKENS_BETWEEN_YIELDS = 8
"""Unpaced, the event loop gets its turn after the first token and then each time after this many."""


class EchoEngine:
    """An Engine without a model."""

    def __init__(
        self,
        clock: Clock,
        *,
        vocabulary_size: int,
        eos_token_id: int,
        context_tokens: int = 8192,
        tokens_per_s: float = 0.0,
        most_sequences: int = 4096,
    ) -> None:
        self._clock = clock
        self._eos_token_id = eos_token_id
        self._pace_s = 1.0 / tokens_per_s if tokens_per_s > 0 else 0.0
        self._most_sequences = most_sequences
        self._ready = _facts(context_tokens, vocabulary_size, most_sequences)
        self._open: set[EchoStream] = set()
        self._is_ready = False
        self._generated_count = 0
        self._load = Watched(LoadReading())
        self.kv_events = KvEventLog(wall_s=clock.wall())
        self._cache = EchoCache(self.kv_events)
        self._pinned = PinnedPrefixes()
        self._listeners: list[ReadinessListener] = []

    @property
    def facts(self) -> Ready | None:
        return self._ready if self._is_ready else None

    @property
    def is_ready(self) -> bool:
        return self._is_ready

    async def start(self) -> Ready:
        self._is_ready = True
        self._note_load()
        for listener in self._listeners:
            listener(True)
        return self._ready

    def on_readiness(self, listener: ReadinessListener) -> None:
        self._listeners.append(listener)

    def open(self, spec: SequenceSpec) -> SequenceStream:
        if not self._is_ready:
            raise NotReady("the engine is starting")
        if len(self._open) >= self._most_sequences:
            raise Overloaded(f"{self._most_sequences} sequences run here already", retry_after_s=1.0)
        cached_count = self._cache.admit(spec)
        stream = EchoStream(spec, self._eos_token_id, self._clock.now(), cached_count, self._pause, self._closed)
        self._open.add(stream)
        self._note_load()
        return stream

    def load(self) -> LoadReading:
        return self._load.value

    async def load_changed(self) -> None:
        await self._load.changed()

    async def flush_cache(self) -> int:
        if not self._is_ready:
            raise NotReady("the engine is starting")
        return self._cache.flush()

    async def pin_prefix(self, prefix: Prefix, *, is_pinned: bool) -> None:
        if not self._is_ready:
            raise NotReady("the engine is starting")
        if not is_pinned:
            if self._pinned.discard(prefix):
                self._cache.unpin(prefix)
        elif prefix not in self._pinned:
            self._pinned.add(prefix, cache_tokens=self._cache.most_tokens)
            if not self._cache.pin(prefix):
                self._pinned.discard(prefix)
                raise no_room()

    async def close(self) -> None:
        self._is_ready = False

    async def _pause(self, stream: EchoStream, drawn_count: int) -> None:
        """Wait until the next token is due; due times are counted from the stream's start, so that they never drift."""
        if self._pace_s:
            due_at = stream.opened_at + (drawn_count + 1) * self._pace_s
            await self._clock.sleep(max(0.0, due_at - self._clock.now()))
        elif drawn_count % TOKENS_BETWEEN_YIELDS == 1:
            await asyncio.sleep(0)

    def _closed(self, stream: EchoStream, drawn_count: int) -> None:
        with contextlib.suppress(KeyError):
            self._open.remove(stream)
            self._generated_count += drawn_count
            self._note_load()

    def _note_load(self) -> None:
        load = Load(
            running_count=len(self._open),
            kv_total_tokens=self._ready.kv_total_tokens,
            generated_token_count=self._generated_count,
            prompt_token_count=self._cache.prompt_token_count,
            cached_prompt_token_count=self._cache.cached_prompt_token_count,
        )
        self._load.set(LoadReading(load=load, generation=1, max_running_count=self._most_sequences))


class EchoStream:
    """One echoed sequence."""

    def __init__(
        self,
        spec: SequenceSpec,
        eos_token_id: int,
        opened_at: float,
        cached_count: int,
        pause: Callable[[EchoStream, int], Awaitable[None]],
        on_close: Callable[[EchoStream, int], None],
    ) -> None:
        self._spec = spec
        self._eos_token_id = eos_token_id
        self.opened_at = opened_at
        self._cached_count = cached_count
        self._pause = pause
        self._on_close = on_close
        self._drawn_count = 0
        self._is_scored = spec.prompt_logprobs is None

    async def next_event(self) -> SequenceEvent:
        if not self._is_scored:
            self._is_scored = True
            return echo_scores(self._spec)
        await self._pause(self, self._drawn_count)
        event = echo_token(self._spec, self._drawn_count, self._eos_token_id)
        if self._drawn_count == 0 and self._cached_count:
            event = msgspec.structs.replace(event, cached_prompt_tokens=self._cached_count)
        self._drawn_count += 1
        if event.finish is not None:
            self.close()
        return event

    def close(self) -> None:
        self._on_close(self, self._drawn_count)


def echo_token(spec: SequenceSpec | AddSequence, position: int, eos_token_id: int, sequence_id: int = 0) -> TokenDrawn:
    """The token at a position of the answer, 0-based."""
    stopping, length = spec.stopping, len(spec.prompt_ids)
    may_stop = position >= stopping.min_tokens
    ends = may_stop and position >= length and eos_token_id in stopping.stop_token_ids
    token_id = eos_token_id if ends else spec.prompt_ids[position % length]
    finish: FinishReason | None = None
    if may_stop and token_id in stopping.stop_token_ids:
        finish = "stop"
    elif position + 1 >= stopping.max_tokens:
        finish = "length"
    return TokenDrawn(
        sequence_id=sequence_id,
        token_id=token_id,
        finish=finish,
        logprob=None if spec.logprobs is None else 0.0,
        top=[TokenLogprob(token_id=token_id, logprob=0.0)] if spec.logprobs else [],
    )


def echo_scores(spec: SequenceSpec | AddSequence, sequence_id: int = 0) -> PromptScored:
    """Every token of the prompt was certain."""
    rest = spec.prompt_ids[1:]
    drawn = [TokenLogprob(token_id=token_id, logprob=0.0) for token_id in rest]
    return PromptScored(sequence_id=sequence_id, drawn=drawn, top=[[] for _ in rest])


def _facts(context_tokens: int, vocabulary_size: int, most_sequences: int) -> Ready:
    return Ready(
        architecture="echo",
        context_tokens=context_tokens,
        vocabulary_size=vocabulary_size,
        parameter_count=0,
        dtype="none",
        tensor_parallel_size=1,
        kv_total_tokens=context_tokens * most_sequences,
        max_running_count=most_sequences,
        rank_pids=[],
        all_reduce="none",
    )
