"""What the registry knows of a mesh, for people: every instance with its address, health and metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshctl.loopback_http import HttpFailed, read_json
from meshkit.registry.base import Instance
from meshkit.registry.file import instances_in
from meshkit.registry.health_row import complaints_in, instance_of

SERVICES = ("mesh-router", "mesh-cache", "mesh-compressor", "mesh-inference", "mesh-console")
QUERY_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredInstance:
    """One instance as the registry sees it."""

    service: str
    id: str
    address: str
    is_healthy: bool
    detail: str
    """Why it is not healthy; empty where it is."""
    metadata: Mapping[str, str]


def registered(kind: str, *, consul_url: str, run_dir: Path) -> list[RegisteredInstance]:
    """All instances, by service and id; an empty list while the registry is away."""
    try:
        found = _from_consul(consul_url) if kind == "consul" else _from_files(run_dir / "registry")
    except (HttpFailed, OSError, ValueError):
        return []
    return sorted(found, key=lambda one: (SERVICES.index(one.service), one.id))


def _from_consul(url: str) -> list[RegisteredInstance]:
    return [
        _of_row(service, row)
        for service in SERVICES
        for row in read_json(f"{url}/v1/health/service/{service}", timeout_s=QUERY_TIMEOUT_S)
    ]


def _of_row(service: str, row: Mapping[str, Any]) -> RegisteredInstance:
    return _seen(instance_of(service, row), complaints_in(row))


def _from_files(directory: Path) -> list[RegisteredInstance]:
    """A file of a process that has ended counts as absent."""
    return [_seen(instance) for service in SERVICES for instance in instances_in(directory, service)]


def _seen(instance: Instance, detail: str = "") -> RegisteredInstance:
    return RegisteredInstance(
        service=instance.service,
        id=instance.id,
        address=instance.address,
        is_healthy=instance.is_passing,
        detail=detail,
        metadata=instance.metadata,
    )
