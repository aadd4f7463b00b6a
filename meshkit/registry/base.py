"""The registry's port: register this instance, watch the instances of a service.

A watch never forgets on its own: while the registry is away, or answers with a sudden empty list, an InstanceSet keeps
the last-known instances and says so (`is_stale`). Whether they still answer is passive health's matter (`picker`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One running instance of a service."""

    id: str
    service: str
    address: str
    """`host:port`, for a channel."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """version, revision, model, tier, region, tensor_parallel_size, ..."""
    is_passing: bool = True
    """What the registry's own health check says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What an instance says of itself."""

    id: str
    service: str
    host: str
    port: int
    grpc_name: str
    """Full name of the gRPC service whose health is asked."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    uses_tls: bool = False
    is_serving: Callable[[], bool] = lambda: True
    """Asked with every announcement, so that a registry that forgot a sick instance does not hear that it is well."""


class InstanceSet:
    """The instances of one service as last known; fed by a registry, read by pickers."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.current: tuple[Instance, ...] = ()
        self._changed = asyncio.Event()
        self._fresh = asyncio.Event()
        self._fresh.set()

    @property
    def is_stale(self) -> bool:
        """Whether `current` is only what was last known."""
        return not self._fresh.is_set()

    def replace(self, instances: tuple[Instance, ...]) -> None:
        """Take what the registry says; an empty answer leaves the last-known instances in place, as stale."""
        if self.current and not instances:
            self.mark_stale()
            return
        self._fresh.set()
        if instances != self.current:
            self.current = instances
            self._wake()

    def mark_stale(self) -> None:
        """The registry is away."""
        self._fresh.clear()

    async def changed(self) -> None:
        """Return when `current` has changed since this call."""
        await self._changed.wait()

    async def fresh(self) -> None:
        """Return once `current` is what the registry says."""
        await self._fresh.wait()

    async def non_empty(self) -> tuple[Instance, ...]:
        """Return `current` as soon as there is an instance."""
        while not self.current:
            await self.changed()
        return self.current

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Registry(Protocol):
    """Where instances are registered and found."""

    async def register(self, registration: Registration) -> None:
        """Announce an instance, and keep it announced until `deregister`, also when the registry forgets it."""
        ...

    async def deregister(self) -> None:
        """Withdraw what was registered here. Bounded in time; a registry that is away is no error."""
        ...

    def watch(self, service: str) -> InstanceSet:
        """The live set of a service's instances; the same object for each call."""
        ...

    async def close(self) -> None:
        """End every watch."""
        ...
