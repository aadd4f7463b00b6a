"""How the cache is configured: what each tier may hold and for how long, and what a request may ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from meshkit.settings import IdentitySettings, ServerSettings, ServiceSettings, require

_MIB = 1024 * 1024
_URL_SCHEMES = ("valkey://", "valkeys://", "redis://", "rediss://", "unix://")


@dataclass(frozen=True, slots=True, kw_only=True)
class L1Settings:
    """Memory of this process."""

    budget_bytes: int = 256 * _MIB
    ttl_s: float = 300.0

    def __post_init__(self) -> None:
        require(self.budget_bytes > 0, "l1.budget_bytes must be over 0")
        require(self.ttl_s > 0, "l1.ttl_s must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class L2Settings:
    """A Valkey or Redis server. Its own maxmemory is the byte budget."""

    url: str = ""
    """Such as valkey://127.0.0.1:6379/0; `valkeys` for TLS. Empty: no second tier."""
    username: str = ""
    password_file: Path | None = None
    """File that holds the password, so that it is in no environment and no process list."""
    ttl_s: float = 3600.0
    timeout_s: float = 0.02
    """Longest that a look-up waits."""
    write_timeout_s: float = 0.25
    """Longest that a write takes; no request waits for it."""
    max_connections: int = 32
    failure_limit: int = 3
    """Failures in a row after which the tier is passed over."""
    first_rest_s: float = 0.2
    """Between the first two probes of a tier that is passed over."""
    longest_rest_s: float = 2.0
    queue_entries: int = 1024
    """Writes that may wait; more are dropped and counted."""
    queue_bytes: int = 64 * _MIB

    def __post_init__(self) -> None:
        require(not self.url or self.url.startswith(_URL_SCHEMES), f"l2.url must start with one of {_URL_SCHEMES}")
        for name in ("ttl_s", "timeout_s", "write_timeout_s", "max_connections", "failure_limit", "first_rest_s"):
            require(getattr(self, name) > 0, f"l2.{name} must be over 0")
        require(self.longest_rest_s >= self.first_rest_s, "l2.longest_rest_s must not be under l2.first_rest_s")
        require(self.queue_entries > 0 and self.queue_bytes > 0, "l2.queue_entries and l2.queue_bytes must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrySettings:
    """What may be stored."""

    max_bytes: int = _MIB
    max_ttl_s: float = 86_400.0
    """Longest that a caller may ask for; more is shortened to it."""
    ttl_jitter: float = 0.1
    """Default times to live are shortened by up to this share, so that entries do not expire together."""
    max_tags: int = 16
    max_tag_bytes: int = 128

    def __post_init__(self) -> None:
        require(self.max_bytes > 0, "entry.max_bytes must be over 0")
        require(self.max_ttl_s > 0, "entry.max_ttl_s must be over 0")
        require(0 <= self.ttl_jitter < 1, "entry.ttl_jitter must be in [0, 1)")
        require(self.max_tags >= 0, "entry.max_tags must not be negative")
        require(self.max_tag_bytes > 0, "entry.max_tag_bytes must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightSettings:
    """Requests that ask the same at once share one generation."""

    ttl_s: float = 3.0
    """A leader that says nothing for so long is replaced by a follower."""
    linger_s: float = 5.0
    """How long a finished answer can still be followed."""
    keep_s: float = 60.0
    """How long a flight without a leader waits for a follower to take over."""
    poll_s: float = 0.025
    """Between two looks at a flight that somebody follows."""
    max_bytes: int = 64 * _MIB
    """Events of all flights in this process's memory, where no server shares them."""

    def __post_init__(self) -> None:
        for name in ("ttl_s", "linger_s", "poll_s", "max_bytes"):
            require(getattr(self, name) > 0, f"flight.{name} must be over 0")
        require(self.keep_s >= self.ttl_s, "flight.keep_s must not be under flight.ttl_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings(ServiceSettings):
    """Settings of the cache service."""

    server: ServerSettings = field(default_factory=lambda: ServerSettings(port=50052))
    identity: IdentitySettings = field(default_factory=lambda: IdentitySettings(accept_forwarded=True))
    l1: L1Settings = field(default_factory=L1Settings)
    l2: L2Settings = field(default_factory=L2Settings)
    entry: EntrySettings = field(default_factory=EntrySettings)
    flight: FlightSettings = field(default_factory=FlightSettings)
