"""Last-known instances on disk, so that a service that restarts while the registry is away still finds its peers."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from meshkit.registry.base import Instance


class SnapshotStore:
    """One small JSON file a service. Losing it costs nothing but the memory of it, so errors are not raised."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, service: str, instances: tuple[Instance, ...]) -> None:
        """Replace the file in one step; a full or read-only disk is ignored."""
        path = self._path(service)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps([asdict(instance) for instance in instances]))
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def load(self, service: str) -> tuple[Instance, ...]:
        """What was saved last; empty if there is nothing readable."""
        try:
            entries = json.loads(self._path(service).read_text())
            return tuple(_instance_of(service, entry) for entry in entries)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return ()

    def _path(self, service: str) -> Path:
        return self._directory / f"{service}.json"


def _instance_of(service: str, entry: dict[str, Any]) -> Instance:
    return Instance(
        id=str(entry["id"]),
        service=service,
        address=str(entry["address"]),
        metadata={str(key): str(value) for key, value in entry["metadata"].items()},
        is_passing=bool(entry["is_passing"]),
    )
