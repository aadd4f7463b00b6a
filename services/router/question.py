"""A request as the router's rules see it. The prompt and its options stay in `payload`, which only adapters read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """Latency that the caller asked for, in seconds; None: not asked."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One valid request."""

    payload: object
    """What the adapters send on; opaque here."""
    tenant: str
    principal: str
    trace_id: str
    prompt_characters: int = 0
    prompt_token_count: int = 0
    """Of a prompt that came as token ids."""
    model: str = ""
    tier: str = ""
    pinned_instance: str = ""
    priority: int = 0
    uses_cache: bool = True
    stores_answer: bool = True
    replays_paced: bool = False
    """A stored answer comes as slowly as it was generated."""
    answer_ttl_s: float | None = None
    is_compressible: bool = True
    compression_mode: str = "lossless"
    compression_bounds: str = ""
    """What else decides how the prompt is compressed: target, floor, protected strings, frozen prefix."""
    objectives: Objectives = Objectives()
    labels: Mapping[str, str] = field(default_factory=dict)
    """The caller's own, for accounting."""
    idempotency_key: str = ""
    arrived_at: float = 0.0
    """Monotonic seconds."""
    timeout_s: float = 300.0
    """What is left of the caller's deadline."""
