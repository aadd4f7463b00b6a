"""The settings that every service has. Units are in the names; each service adds its own groups by inheriting.

`MESH_CACHE_SERVER__PORT=50052` sets `server.port` of the cache; in TOML the same is `[server]` / `port = 50052`.
How they are read and checked: `meshkit.settings_loader`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from meshkit.settings_loader import Loaded, SettingsError, describe, load

__all__ = [
    "IdentitySettings",
    "Loaded",
    "RegistrySettings",
    "ServerSettings",
    "ServiceSettings",
    "SettingsError",
    "TelemetrySettings",
    "describe",
    "load",
]

LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024
"""What the transport lets through; between `max_message_bytes` and this the caller is told why it is refused."""
REGISTRY_KINDS = ("consul", "file", "none")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where and how a service listens."""

    host: str = "127.0.0.1"
    port: int = 0
    """TCP port; 0 lets the system choose."""
    advertise_host: str = ""
    """Address that other services use; empty: `host`."""
    metrics_port: int = 0
    """Prometheus metrics over HTTP on `host`; 0: none."""
    max_message_bytes: int = 4 * 1024 * 1024
    """Largest request; a larger one gets INVALID_ARGUMENT."""
    drain_wait_s: float = 0.5
    """Time between leaving the registry and refusing new calls, for watchers to notice."""
    drain_timeout_s: float = 30.0
    """Longest wait for calls in flight when draining."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """With it, callers must show a certificate, and it is their identity."""

    def __post_init__(self) -> None:
        require(bool(self.host), "host must not be empty")
        for name in ("port", "metrics_port"):
            require(0 <= getattr(self, name) <= 65535, f"{name} must be in 0..65535")
        require(
            0 < self.max_message_bytes <= LARGEST_MESSAGE_BYTES,
            f"max_message_bytes must be in 1..{LARGEST_MESSAGE_BYTES}",
        )
        require(self.drain_wait_s >= 0 and self.drain_timeout_s >= 0, "drain_wait_s and drain_timeout_s must be >= 0")
        has_pair = (self.tls_certificate is None) == (self.tls_key is None)
        require(has_pair, "tls_certificate and tls_key must be set together")
        require(
            self.tls_client_ca is None or self.tls_key is not None, "tls_client_ca needs tls_certificate and tls_key"
        )
        for name in ("tls_certificate", "tls_key", "tls_client_ca"):
            path = getattr(self, name)
            require(path is None or path.is_file(), f"{name} must name a file: {path} is none")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """How services find each other."""

    kind: str = "consul"
    """consul, file (one machine, no agent) or none."""
    consul_url: str = "http://127.0.0.1:8500"
    consul_token_file: Path | None = None
    """File that holds the ACL token, so that it is in no environment and no process list."""
    file_path: Path = Path(".run/registry")
    snapshot_dir: Path = Path(".run/registry-snapshots")
    """Last-known instances, for a restart while Consul is away."""
    check_interval_s: float = 1.0
    """How often Consul asks for health; 1 s is its floor."""

    def __post_init__(self) -> None:
        require(self.kind in REGISTRY_KINDS, f"kind must be one of {', '.join(REGISTRY_KINDS)}")
        require(self.consul_url.startswith(("http://", "https://")), "consul_url must start with http:// or https://")
        token = self.consul_token_file
        require(token is None or token.is_file(), f"consul_token_file must name a file: {token} is none")
        require(self.check_interval_s >= 1, "check_interval_s must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """What is told to the people who run the mesh."""

    otlp_endpoint: str = ""
    """OTLP/gRPC, such as 127.0.0.1:4317; empty: traces are not sent."""
    trace_sample_ratio: float = 1.0
    """Share of new traces that are kept; a caller's decision is respected."""
    log_level: str = "info"
    log_prompts: bool = False
    """Prompt and answer text in logs. Only for debugging on one's own machine."""
    environment: str = "local"

    def __post_init__(self) -> None:
        require(0 <= self.trace_sample_ratio <= 1, "trace_sample_ratio must be in [0, 1]")
        require(self.log_level in LOG_LEVELS, f"log_level must be one of {', '.join(LOG_LEVELS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Who a caller is."""

    required: bool = False
    """Refuse callers without a verified identity. Without it they are tenant `default`."""
    accept_forwarded: bool = False
    """Believe the tenant that a peer service forwards. For services behind the router; never for the router.
    Without TLS every peer is believed (one machine, loopback); with TLS only those in `trusted_peers`."""
    trusted_peers: tuple[str, ...] = ()
    """With TLS: certificate names whose forwarded tenant is believed, such as the router's; empty: nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What every service has; each adds its own groups by inheriting."""

    server: ServerSettings = field(default_factory=ServerSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)


def require(holds: bool, rule: str) -> None:
    """For `__post_init__` of settings: raise the ValueError that the loader turns into a SettingsError."""
    if not holds:
        raise ValueError(rule)
