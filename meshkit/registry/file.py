"""Instances as small files in one directory: the registry of a single machine where no Consul can be had.

One JSON file an instance. Its process tells whether it still runs, so a killed instance disappears by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import psutil

from meshkit.clock import Clock
from meshkit.registry.base import Instance, InstanceSet, Registration

_POLL_S = 0.25
# psutil derives start times from the boot time, which a clock adjustment moves a little.
_START_TOLERANCE_S = 2.0


class FileRegistry:
    """A registry for processes that share a directory and a machine. Create it inside the running event loop."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._sets: dict[str, InstanceSet] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._own_path: Path | None = None

    async def register(self, registration: Registration) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{registration.service}--{registration.id.replace('/', '_')}.json"
        entry = {
            "id": registration.id,
            "address": f"{registration.host}:{registration.port}",
            "metadata": dict(registration.metadata),
            "pid": os.getpid(),
            "started_at": psutil.Process().create_time(),
        }
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(entry))
        temporary.replace(path)
        self._own_path = path

    async def deregister(self) -> None:
        if self._own_path is not None:
            self._own_path.unlink(missing_ok=True)
            self._own_path = None

    def watch(self, service: str) -> InstanceSet:
        if service not in self._sets:
            instances = InstanceSet(service)
            instances.replace(instances_in(self._directory, service))
            self._sets[service] = instances
            task = asyncio.get_running_loop().create_task(self._follow(instances))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._sets[service]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, instances: InstanceSet) -> None:
        while True:
            await self._clock.sleep(_POLL_S)
            instances.replace(instances_in(self._directory, instances.service))


def instances_in(directory: Path, service: str) -> tuple[Instance, ...]:
    """The running instances that the directory names now."""
    paths = sorted(directory.glob(f"{service}--*.json"))
    return tuple(found for path in paths if (found := _running_instance(service, path)) is not None)


def _running_instance(service: str, path: Path) -> Instance | None:
    """What a file says; None where it is gone, half-written, not ours, or its process has ended."""
    try:
        entry: dict[str, Any] = json.loads(path.read_text())
        if not _is_running(entry["pid"], entry["started_at"]):
            return None
        return Instance(
            id=entry["id"], service=service, address=entry["address"], metadata=dict(entry.get("metadata", {}))
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _is_running(pid: int, started_at: float) -> bool:
    """Whether it is still that process, and not another one that was given its number."""
    try:
        process = psutil.Process(pid)
        is_same: bool = abs(process.create_time() - started_at) <= _START_TOLERANCE_S
        return is_same and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False
