"""What a request's stream says: accepted, pieces, finished. Times in seconds, money in micro-USD."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from meshkit.coalescing import Piece


class CacheStatus(Enum):
    """How a request met the cache."""

    HIT = "hit"
    MISS = "miss"
    LEAD = "lead"
    FOLLOW = "follow"
    BYPASS = "bypass"
    UNAVAILABLE = "unavailable"
    REGENERATION = "regeneration"
    """No caller's request: it makes a stale answer anew."""


class FinishReason(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    CONTENT = "content"
    TOOL_CALLS = "tool_calls"
    ERROR = "error"


def is_storable(reason: FinishReason) -> bool:
    """Whether an answer that ended so is whole."""
    return reason in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens, counted by the model that answered."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    compressed_from_tokens: int = 0
    completion_tokens: int = 0
    speculative_accepted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The bill of one request, and what it would have been. Savings are negative where a mechanism lost money."""

    input: int = 0
    cached_input: int = 0
    output: int = 0
    total: int = 0
    saved_by_cache: int = 0
    saved_by_compression: int = 0
    counterfactual: int = 0


@dataclass(slots=True, kw_only=True)
class Timings:
    """Where the time went; filled while the request runs. None: the stage was not reached."""

    admission_s: float | None = None
    cache_lookup_s: float | None = None
    compress_s: float | None = None
    route_s: float | None = None
    engine_queue_s: float | None = None
    prefill_s: float | None = None
    first_token_s: float | None = None
    decode_s: float | None = None
    total_s: float | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """What compression did to the prompt."""

    original_tokens: int = 0
    compressed_tokens: int = 0
    quality_score: float = 1.0
    reason_original_kept: str = ""
    is_estimate: bool = False
    """The counts are a guess, since nobody could count in the model's vocabulary."""

    @property
    def saved_tokens(self) -> int:
        """Negative where compression lost; nothing is claimed on a guess."""
        return 0 if self.is_estimate else self.original_tokens - self.compressed_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The decision, before any token."""

    decision_id: str
    model: str
    tier: str
    instance: str
    revision: str
    cache_status: CacheStatus
    compression: Compression | None
    is_stale: bool = False
    """A hit whose time to live is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end and the bill."""

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    cost: Cost
    trace_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """Another instance goes on, before the first token."""

    from_instance: str
    to_instance: str
    reason: str


Event = Accepted | Migrated | Piece | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer as the cache keeps it: each piece with its seconds since the first."""

    pieces: tuple[tuple[float, Piece], ...]
    finish_reason: FinishReason
    usage: Usage
    cost_micro_usd: int
    model: str
    revision: str
    tier: str
