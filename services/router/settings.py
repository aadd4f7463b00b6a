"""What a deployer can set on a router."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshkit.settings import ServerSettings, ServiceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionSettings:
    """How much is taken in at once."""

    max_active: int = 1024
    """Requests in progress."""
    max_waiting: int = 1024
    """Requests that may wait for a place; more are refused with RESOURCE_EXHAUSTED."""
    max_wait_s: float = 10.0
    """Longest wait for a place."""

    def __post_init__(self) -> None:
        if self.max_active < 1 or self.max_waiting < 0:
            raise ValueError("admission.max_active must be at least 1 and admission.max_waiting at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """What one request may ask for."""

    max_prompt_bytes: int = 1024 * 1024
    """Size of a prompt's message: text, roles, tool calls, token ids."""
    default_timeout_s: float = 300.0
    """For callers that give no deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """Use of the cache service."""

    is_enabled: bool = True
    lookup_timeout_s: float = 0.25
    commit_timeout_s: float = 2.0
    commit_grace_s: float = 0.25
    """How long a finished stream stays open for its commit, so that the next identical request hits."""
    max_regenerations: int = 4
    """Stale answers made anew at once, behind the callers that got them; 0: none."""
    regeneration_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if self.max_regenerations < 0 or self.regeneration_timeout_s <= 0:
            raise ValueError("cache.max_regenerations must not be negative, cache.regeneration_timeout_s be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionSettings:
    """Use of the compressor service."""

    is_enabled: bool = True
    timeout_s: float = 2.0
    abstractive_timeout_s: float = 15.0
    """For mode ABSTRACTIVE, where a model may be asked to sum texts up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """Retries before the first token."""

    max_attempts: int = 3
    budget_ratio: float = 0.1
    budget_burst: float = 20.0
    first_backoff_s: float = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSettings:
    """Prices of one tier, in micro-USD per million tokens."""

    input_price_micro_usd: int = 100_000
    cached_input_price_micro_usd: int = 25_000
    output_price_micro_usd: int = 400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings(ServiceSettings):
    """All settings of a router."""

    server: ServerSettings = field(default_factory=lambda: ServerSettings(port=50051))
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    flush_interval_s: float = 0.015
    """Tokens that come closer together than this share a message; the first goes at once."""
    default_model: str = ""
    """Answers requests that name neither model nor tier; empty: the cheapest model that is ready."""
    tiers: dict[str, TierSettings] = field(default_factory=lambda: {"standard": TierSettings()})
