"""How the cache is configured: what each tier may hold and for how long, and what a request may ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from meshkit.settings import IdentitySettings, ServerSettings, ServiceSettings, require

_MIB = 1024 * 1024
_GB = 1_000_000_000
_URL_SCHEMES = ("valkey://", "valkeys://", "redis://", "rediss://", "unix://")


@dataclass(frozen=True, slots=True, kw_only=True)
class L1Settings:
    """Memory of this process."""

    budget_bytes: int = _GB
    """Of entries with all that holding them costs."""
    ttl_s: float = 300.0

    def __post_init__(self) -> None:
        require(self.budget_bytes > 0, "l1.budget_bytes must be over 0")
        require(self.ttl_s > 0, "l1.ttl_s must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class L2Settings:
    """A Valkey or Redis server, or a cluster of them. Its own maxmemory is the byte budget."""

    url: str = ""
    """Such as valkey://127.0.0.1:6379/0; `valkeys` for TLS. Empty: no second tier."""
    cluster: bool = False
    """Whether the server is a node of a cluster; the others are found through it."""
    more_nodes: tuple[str, ...] = ()
    """Further nodes of the cluster, as host:port, to start from while the first is gone."""
    ca_file: Path | None = None
    """With TLS: whom to trust for the server's certificate; absent: the system's own list."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    """With TLS: our own certificate and its key, where the server asks for one."""
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
        require(not self.cluster or bool(urlsplit(self.url).hostname), "l2.cluster needs a host in l2.url")
        has_certificate, has_key = self.certificate_file is not None, self.key_file is not None
        require(has_certificate == has_key, "l2.certificate_file and l2.key_file belong together")
        for name in ("ttl_s", "timeout_s", "write_timeout_s", "max_connections", "failure_limit", "first_rest_s"):
            require(getattr(self, name) > 0, f"l2.{name} must be over 0")
        require(self.longest_rest_s >= self.first_rest_s, "l2.longest_rest_s must not be under l2.first_rest_s")
        require(self.queue_entries > 0 and self.queue_bytes > 0, "l2.queue_entries and l2.queue_bytes must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class L3Settings:
    """A folder on a local disk, of one process at a time."""

    directory: Path | None = None
    """Made if it is absent, for its owner alone. Absent: no third tier."""
    budget_bytes: int = 100 * _GB
    """Largest size of its file and journal."""
    min_free_bytes: int = 1 * _GB
    """What it leaves free on the disk for others, whatever its budget."""
    ttl_s: float = 86_400.0
    timeout_s: float = 0.02
    """Longest that a look-up waits."""
    write_timeout_s: float = 5.0
    """Longest that a write takes; no request waits for it."""
    max_lookups: int = 32
    """Look-ups that may wait for the disk; more pass it over."""
    failure_limit: int = 3
    """Failures in a row after which the tier is passed over."""
    first_rest_s: float = 0.2
    """Between the first two probes of a tier that is passed over, and after a write that the disk did not take."""
    longest_rest_s: float = 2.0
    tidy_every_s: float = 5.0
    """How often expired entries are removed and their space is given back."""
    queue_entries: int = 1024
    """Writes that may wait; more are dropped and counted."""
    queue_bytes: int = 64 * _MIB

    def __post_init__(self) -> None:
        require(self.budget_bytes >= 10 * _MIB, "l3.budget_bytes must be at least 10 MiB")
        require(self.min_free_bytes >= 0, "l3.min_free_bytes must not be negative")
        for name in ("ttl_s", "timeout_s", "write_timeout_s", "max_lookups", "failure_limit", "first_rest_s"):
            require(getattr(self, name) > 0, f"l3.{name} must be over 0")
        require(self.longest_rest_s >= self.first_rest_s, "l3.longest_rest_s must not be under l3.first_rest_s")
        require(self.tidy_every_s > 0, "l3.tidy_every_s must be over 0")
        require(self.queue_entries > 0 and self.queue_bytes > 0, "l3.queue_entries and l3.queue_bytes must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrySettings:
    """What may be stored."""

    max_bytes: int = _MIB
    max_ttl_s: float = 86_400.0
    """Longest that a caller may ask for; more is shortened to it."""
    ttl_jitter: float = 0.1
    """Default times to live are shortened by up to this share, so that entries do not expire together."""
    stale_s: float = 0.0
    """How long an entry may be served after its time to live, while one caller generates it anew; 0: never."""
    max_tags: int = 16
    max_tag_bytes: int = 128

    def __post_init__(self) -> None:
        require(self.max_bytes > 0, "entry.max_bytes must be over 0")
        require(self.max_ttl_s > 0, "entry.max_ttl_s must be over 0")
        require(0 <= self.ttl_jitter < 1, "entry.ttl_jitter must be in [0, 1)")
        require(self.stale_s >= 0, "entry.stale_s must not be negative")
        require(self.max_tags >= 0, "entry.max_tags must not be negative")
        require(self.max_tag_bytes > 0, "entry.max_tag_bytes must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings(ServiceSettings):
    """Settings of the cache service."""

    server: ServerSettings = field(default_factory=lambda: ServerSettings(port=50052))
    identity: IdentitySettings = field(default_factory=lambda: IdentitySettings(accept_forwarded=True))
    l1: L1Settings = field(default_factory=L1Settings)
    l2: L2Settings = field(default_factory=L2Settings)
    l3: L3Settings = field(default_factory=L3Settings)
    entry: EntrySettings = field(default_factory=EntrySettings)
