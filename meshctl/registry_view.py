"""What the registry knows of a mesh, for people: every instance with its address, health and metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshctl.loopback_http import HttpFailed, read_json
from meshkit.registry.file import instances_in

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
        _of_entry(service, entry)
        for service in SERVICES
        for entry in read_json(f"{url}/v1/health/service/{service}", timeout_s=QUERY_TIMEOUT_S)
    ]


def _of_entry(service: str, entry: Mapping[str, Any]) -> RegisteredInstance:
    failing = [check for check in entry["Checks"] if check["Status"] != "passing"]
    host = entry["Service"]["Address"] or entry["Node"]["Address"]
    return RegisteredInstance(
        service=service,
        id=entry["Service"]["ID"],
        address=f"{host}:{entry['Service']['Port']}",
        is_healthy=not failing,
        detail="; ".join(str(check["Output"]).strip().splitlines()[0] for check in failing if check["Output"]),
        metadata=entry["Service"].get("Meta") or {},
    )


def _from_files(directory: Path) -> list[RegisteredInstance]:
    """A file of a process that has ended counts as absent."""
    return [
        RegisteredInstance(
            service=service,
            id=instance.id,
            address=instance.address,
            is_healthy=True,
            detail="",
            metadata=instance.metadata,
        )
        for service in SERVICES
        for instance in instances_in(directory, service)
    ]
