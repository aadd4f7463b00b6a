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
class FarTierSettings:
    """What the tiers outside this process have in common."""

    timeout_s: float = 0.02
    """Longest that a look-up waits."""
    failure_limit: int = 3
    """Failures in a row after which the tier is passed over."""
    first_rest_s: float = 0.2
    """Between the first two probes of a tier that is passed over, and after a write that a disk did not take."""
    longest_rest_s: float = 2.0
    queue_entries: int = 1024
    """Writes that may wait; more are dropped and counted."""
    queue_bytes: int = 64 * _MIB

    def check(self, section: str, *positive: str) -> None:
        """Raises for the first value out of its range; `positive` names more that must be over 0."""
        for name in (*positive, "timeout_s", "failure_limit", "first_rest_s", "queue_entries", "queue_bytes"):
            require(getattr(self, name) > 0, f"{section}.{name} must be over 0")
        longest = f"{section}.longest_rest_s must not be under {section}.first_rest_s"
        require(self.longest_rest_s >= self.first_rest_s, longest)


@dataclass(frozen=True, slots=True, kw_only=True)
class L2Settings(FarTierSettings):
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
    write_timeout_s: float = 0.25
    """Longest that a write takes; no request waits for it."""
    max_connections: int = 32

    def __post_init__(self) -> None:
        require(not self.url or self.url.startswith(_URL_SCHEMES), f"l2.url must start with one of {_URL_SCHEMES}")
        require(not self.cluster or bool(urlsplit(self.url).hostname), "l2.cluster needs a host in l2.url")
        has_certificate, has_key = self.certificate_file is not None, self.key_file is not None
        require(has_certificate == has_key, "l2.certificate_file and l2.key_file belong together")
        self.check("l2", "ttl_s", "write_timeout_s", "max_connections")


@dataclass(frozen=True, slots=True, kw_only=True)
class L3Settings(FarTierSettings):
    """A folder on a local disk, of one process at a time."""

    directory: Path | None = None
    """Made if it is absent, for its owner alone. Absent: no third tier."""
    budget_bytes: int = 100 * _GB
    """Largest size of its file and journal."""
    min_free_bytes: int = 1 * _GB
    """What it leaves free on the disk for others, whatever its budget."""
    ttl_s: float = 86_400.0
    write_timeout_s: float = 5.0
    """Longest that a write takes; no request waits for it."""
    max_lookups: int = 32
    """Look-ups that may wait for the disk; more pass it over."""
    tidy_every_s: float = 5.0
    """How often expired entries are removed and their space is given back."""

    def __post_init__(self) -> None:
        require(self.budget_bytes >= 10 * _MIB, "l3.budget_bytes must be at least 10 MiB")
        require(self.min_free_bytes >= 0, "l3.min_free_bytes must not be negative")
        self.check("l3", "ttl_s", "write_timeout_s", "max_lookups", "tidy_every_s")


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
class EpochSettings:
    """How instances agree on what is invalidated. With l2.url they do so there, else each instance is alone."""

    bound_s: float = 1.0
    """Longest until every instance obeys, while the server answers."""
    poll_s: float = 0.2
    timeout_s: float = 0.25
    """Longest that one question takes."""
    grace_s: float = 60.0
    """How long entries are served when the server does not answer; then none is, until it does."""
    max_rules: int = 1000
    """Rules kept for one tenant; more are folded into one that hides everything older."""

    def __post_init__(self) -> None:
        require(self.poll_s > 0, "epochs.poll_s must be over 0")
        require(self.timeout_s > 0, "epochs.timeout_s must be over 0")
        require(self.bound_s >= self.poll_s + self.timeout_s, "epochs.bound_s must be at least poll_s + timeout_s")
        require(self.grace_s >= self.bound_s, "epochs.grace_s must not be under epochs.bound_s")
        require(self.max_rules > 0, "epochs.max_rules must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantQuotaSettings:
    """One tenant's share of L1."""

    max_bytes: int = 0
    """0: as `quota.max_bytes`."""
    max_entries: int = 0
    """0: as `quota.max_entries`."""

    def __post_init__(self) -> None:
        require(self.max_bytes >= 0 and self.max_entries >= 0, "max_bytes and max_entries must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSettings:
    """How much of L1 a tenant may hold. Whatever it is, none can push out what another holds, if that is less."""

    max_bytes: int = 0
    """For each tenant; 0: no limit but l1.budget_bytes."""
    max_entries: int = 0
    """For each tenant; 0: no limit."""
    tenants: dict[str, TenantQuotaSettings] = field(default_factory=dict)
    """Other limits for some, such as `[quota.tenants.search]` with `max_bytes = 200000000`."""

    def __post_init__(self) -> None:
        require(self.max_bytes >= 0, "quota.max_bytes must not be negative")
        require(self.max_entries >= 0, "quota.max_entries must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSemanticSettings:
    """A tenant's policy for look-up by meaning."""

    always: bool = False
    """Also look up by meaning where the caller leaves the mode open and the request is repeatable."""
    max_error_rate: float = 0.01
    """Highest that this tenant's callers may accept; what they state above it is lowered to it."""

    def __post_init__(self) -> None:
        require(0 <= self.max_error_rate <= 1, "semantic.tenants.*.max_error_rate must be in 0..1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticSettings:
    """Look-up by meaning: only where the caller asks for it or the tenant's policy says so."""

    enabled: bool = True
    """Off: mode SEMANTIC looks up exactly and says that there is nothing more."""
    default_error_rate: float = 0.01
    """Share of wrong ones among the hits that a caller accepts who states none."""
    max_error_rate: float = 0.05
    """Highest that a caller may accept, where the tenant has no policy of its own."""
    tenants: dict[str, TenantSemanticSettings] = field(default_factory=dict)
    least_similarity: float = 0.5
    """Cosine under which a stored question is not near at all, whatever was learnt."""
    neighbours: int = 20
    """Stored questions that are looked at."""
    timeout_s: float = 0.1
    """Longest that a look-up by meaning takes; then it is a miss."""
    window_s: float = 0.002
    """How long the first question waits for others to be embedded with."""
    max_batch: int = 16
    max_waiting: int = 64
    """Questions that may wait for their embedding; more are misses."""
    max_question_chars: int = 1_200
    max_entries: int = 10_000
    """Stored questions in one partition: one tenant, model, system prompt and all else but the last question."""
    max_partitions: int = 1_024
    budget_bytes: int = 128 * _MIB
    """Of all partitions."""
    max_remembered: int = 4_096
    """Misses that wait for their answer to learn from, and hits that may be reported as wrong."""
    remembered_s: float = 600.0

    def __post_init__(self) -> None:
        for name in ("default_error_rate", "max_error_rate", "least_similarity"):
            require(0 <= getattr(self, name) <= 1, f"semantic.{name} must be in 0..1")
        for name in ("neighbours", "timeout_s", "max_batch", "max_waiting", "max_question_chars", "max_entries"):
            require(getattr(self, name) > 0, f"semantic.{name} must be over 0")
        for name in ("max_partitions", "budget_bytes", "max_remembered", "remembered_s"):
            require(getattr(self, name) > 0, f"semantic.{name} must be over 0")
        require(self.window_s >= 0, "semantic.window_s must not be negative")

    def is_always(self, tenant: str) -> bool:
        """Whether the tenant's policy asks for look-up by meaning."""
        return tenant in self.tenants and self.tenants[tenant].always

    def error_rate(self, tenant: str, asked: float | None) -> float:
        """What applies to a look-up."""
        policy = self.tenants.get(tenant)
        cap = self.max_error_rate if policy is None else policy.max_error_rate
        return min(self.default_error_rate if asked is None else asked, cap)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixSettings:
    """Hints for routers: which engine holds the beginning of a prompt."""

    enabled: bool = True
    budget_bytes: int = 32 * _MIB
    """What is remembered of prompts, of all tenants."""
    max_blocks: int = 500_000
    """Blocks of all engines that are known, at about 80 bytes each; more are passed over."""

    def __post_init__(self) -> None:
        require(self.budget_bytes > 0 and self.max_blocks > 0, "prefix.budget_bytes and max_blocks must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings(ServiceSettings):
    """Settings of the cache service."""

    server: ServerSettings = field(default_factory=lambda: ServerSettings(port=50052))
    identity: IdentitySettings = field(default_factory=lambda: IdentitySettings(accept_forwarded=True))
    l1: L1Settings = field(default_factory=L1Settings)
    l2: L2Settings = field(default_factory=L2Settings)
    l3: L3Settings = field(default_factory=L3Settings)
    entry: EntrySettings = field(default_factory=EntrySettings)
    flight: FlightSettings = field(default_factory=FlightSettings)
    epochs: EpochSettings = field(default_factory=EpochSettings)
    quota: QuotaSettings = field(default_factory=QuotaSettings)
    semantic: SemanticSettings = field(default_factory=SemanticSettings)
    prefix: PrefixSettings = field(default_factory=PrefixSettings)
