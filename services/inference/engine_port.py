"""The port between text and whatever draws the tokens: `EngineClient` is the real one, `EchoEngine` the double.

Both pass the same suite (tests/unit/inference/test_engine_suite.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from services.inference.engine.messages import Load, PromptScored, Ready, Sampling, Stopping, TokenDrawn
from services.inference.kv_events import KvEventLog
from services.inference.pinned_prefixes import Prefix

SequenceEvent = TokenDrawn | PromptScored
ReadinessListener = Callable[[bool], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceSpec:
    """One sequence to generate. Every value is checked and final."""

    prompt_ids: list[int]
    sampling: Sampling
    stopping: Stopping
    priority: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    cache_salt: str = ""
    """Keys and values are shared among sequences with the same salt alone."""
    deadline_s: float | None = None
    """From now; past it the engine gives the sequence up."""
    ttft_slo_s: float | None = None
    """From now to the first token, as wished; it moves the sequence forward in line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReading:
    """What an engine said it is busy with, and which of its lives said so."""

    load: Load = field(default_factory=Load)
    generation: int = 0
    max_running_count: int = 0


class SequenceStream(Protocol):
    """The events of one sequence, the last one a token with a finish reason."""

    async def next_event(self) -> SequenceEvent:
        """The next event. Raises BackendDown when the engine dies, Internal when it gave this sequence up, and
        DeadlineExceeded when its time ran out."""
        ...

    def close(self) -> None:
        """Free the sequence within a step. Idempotent, and right at any time; never waits."""
        ...


class Engine(Protocol):
    """Draws tokens for many sequences at a time."""

    @property
    def facts(self) -> Ready | None:
        """What the engine said of itself when it was last ready; None before the first time."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether it draws tokens now."""
        ...

    async def start(self) -> Ready:
        """Return once a real token was drawn; raises BackendDown with advice where that can't be."""
        ...

    def on_readiness(self, listener: ReadinessListener) -> None:
        """Call `listener` whenever `is_ready` changes."""
        ...

    def open(self, spec: SequenceSpec) -> SequenceStream:
        """Admit a sequence; the caller closes the stream, whatever happens.

        Raises Overloaded while too many sequences are open, NotReady while the engine starts.
        """
        ...

    def load(self) -> LoadReading:
        """The load after the latest step."""
        ...

    async def load_changed(self) -> None:
        """Return when there is a newer load."""
        ...

    @property
    def kv_events(self) -> KvEventLog:
        """What its prefix cache stores, over all of its lives."""
        ...

    async def flush_cache(self) -> int:
        """Forget the prefix cache; how many blocks it alone had kept. Raises NotReady and BackendDown."""
        ...

    async def pin_prefix(self, prefix: Prefix, *, is_pinned: bool) -> None:
        """Keep a prefix in the cache once it is computed, over all lives, or let it go. The same twice is once.

        Raises Overloaded and QuotaExceeded where too much would be kept, NotReady and BackendDown.
        """
        ...

    async def close(self) -> None:
        """End it and everything that it started."""
        ...
