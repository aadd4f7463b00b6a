"""How the console is configured: where it listens, what it keeps, and how much may wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from meshkit.settings import ServerSettings, ServiceSettings, require
from services.console.caps import SMALLEST_CAP_BYTES

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The pages and Jaeger's query API."""

    host: str = "127.0.0.1"
    port: int = 16686
    longest_read_s: float = 5.0
    """A search that takes longer is given up."""

    def __post_init__(self) -> None:
        require(0 <= self.port <= 65535, "http.port must be in 0..65535")
        require(self.longest_read_s > 0, "http.longest_read_s must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The file of spans."""

    path: Path = Path(".run/console/traces.db")
    max_bytes: int = 256 * _MIB
    """Cap of the file with its log; the oldest traces go first."""
    max_age_s: float = 7 * 24 * 3600.0
    """Traces that arrived longer ago are deleted."""

    def __post_init__(self) -> None:
        require(self.max_bytes >= SMALLEST_CAP_BYTES, f"store.max_bytes must be at least {SMALLEST_CAP_BYTES}")
        require(self.max_age_s > 0, "store.max_age_s must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """Spans that have arrived and are not written yet."""

    queue_spans: int = 20_000
    queue_bytes: int = 32 * _MIB
    flush_interval_s: float = 0.2

    def __post_init__(self) -> None:
        require(self.queue_spans > 0 and self.queue_bytes > 0, "intake.queue_spans and queue_bytes must be over 0")
        require(self.flush_interval_s >= 0, "intake.flush_interval_s must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSettings(ServiceSettings):
    """Settings of the console. Its gRPC port is the one for OTLP."""

    server: ServerSettings = field(default_factory=lambda: ServerSettings(port=4317))
    http: HttpSettings = field(default_factory=HttpSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    intake: IntakeSettings = field(default_factory=IntakeSettings)

    def __post_init__(self) -> None:
        require(not self.telemetry.otlp_endpoint, "telemetry.otlp_endpoint must be empty: the console sends no traces")
