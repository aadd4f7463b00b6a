"""The parts that the chassis hands to a service, made in one place."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry, ProcessCollector

from meshkit.calls import Calls
from meshkit.channels import ChannelPool
from meshkit.clock import Clock, SystemClock
from meshkit.health import Health
from meshkit.registry.base import InstanceSet, Registration, Registry
from meshkit.settings import RegistrySettings, ServerSettings, ServiceSettings
from meshkit.telemetry.tracing import Tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class Chassis:
    """Collaborators of a service. Create inside the running event loop."""

    clock: Clock
    registry: Registry
    channels: ChannelPool
    calls: Calls
    health: Health
    tracing: Tracing
    metrics_registry: CollectorRegistry
    instance_id: str
    version: str


def build_chassis(settings: ServiceSettings, *, service: str, grpc_name: str, instance_id: str) -> Chassis:
    """The real parts, as the settings say."""
    clock = SystemClock()
    metrics_registry = CollectorRegistry()
    ProcessCollector(registry=metrics_registry)
    version = package_version()
    tracing = Tracing(
        settings.telemetry, service=service, instance_id=instance_id, version=version, metrics_registry=metrics_registry
    )
    return Chassis(
        clock=clock,
        registry=build_registry(settings.registry, clock),
        channels=ChannelPool(channel_credentials(settings.server)),
        calls=Calls(tracing.tracer),
        health=Health(grpc_name),
        tracing=tracing,
        metrics_registry=metrics_registry,
        instance_id=instance_id,
        version=version,
    )


def build_registry(settings: RegistrySettings, clock: Clock) -> Registry:
    """The registry that the settings name."""
    # Imported here: each brings 10 to 20 MB of clients that the other kinds don't need.
    if settings.kind == "consul":
        return _consul_registry(settings, clock)
    if settings.kind == "file":
        from meshkit.registry.file import FileRegistry

        return FileRegistry(settings.file_path, clock)
    return NoRegistry()


def _consul_registry(settings: RegistrySettings, clock: Clock) -> Registry:
    from meshkit.registry.consul import ConsulRegistry
    from meshkit.registry.snapshot import SnapshotStore

    return ConsulRegistry(
        url=settings.consul_url,
        token=settings.consul_token_file.read_text().strip() if settings.consul_token_file else "",
        clock=clock,
        snapshots=SnapshotStore(settings.snapshot_dir),
        check_interval_s=settings.check_interval_s,
    )


def channel_credentials(server: ServerSettings) -> grpc.ChannelCredentials | None:
    """A service calls its peers with the certificate that it serves with; None without TLS."""
    if server.tls_certificate is None or server.tls_key is None:
        return None
    ca = _read(server.tls_client_ca) if server.tls_client_ca else None
    return grpc.ssl_channel_credentials(ca, _read(server.tls_key), _read(server.tls_certificate))


def server_credentials(server: ServerSettings) -> grpc.ServerCredentials | None:
    """TLS, with the callers' certificates required where a CA for them is given; None without TLS."""
    if server.tls_certificate is None or server.tls_key is None:
        return None
    ca = _read(server.tls_client_ca) if server.tls_client_ca else None
    pair = (_read(server.tls_key), _read(server.tls_certificate))
    return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)


def package_version() -> str:
    """The installed version of the distribution."""
    try:
        return metadata.version("inference-mesh")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def _read(path: Path) -> bytes:
    return path.read_bytes()


class NoRegistry:
    """A service that is found by address only; watches stay empty."""

    async def register(self, registration: Registration) -> None: ...

    async def deregister(self) -> None: ...

    def watch(self, service: str) -> InstanceSet:
        return InstanceSet(service)

    async def close(self) -> None: ...
