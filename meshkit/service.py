"""What a deployable is to the chassis: names, a servicer, and three moments of its life."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import grpc


class Service:
    """Base of each service; `services/<name>/app.py` subclasses it and wires the real parts together."""

    consul_name: ClassVar[str] = ""
    """Name in the registry: mesh-router, mesh-cache, ..."""
    grpc_name: ClassVar[str] = ""
    """Full name of the gRPC service: mesh.router.v1.RouterService, ..."""

    @property
    def is_ready(self) -> bool:
        """Whether it could serve now, asked before it is called SERVING: something may have died since `start`."""
        return True

    def add_to(self, server: grpc.aio.Server) -> None:
        """Add the servicer; called once, before the port is bound."""
        raise NotImplementedError

    async def start(self) -> Mapping[str, str]:
        """Load what is needed. Returning means ready; what is returned goes into the registry as metadata."""
        return {}

    async def drain(self) -> None:
        """Take nothing new. Called once the registry no longer names this instance; calls in flight go on."""

    async def close(self) -> None:
        """Let everything go. Called last, also when `start` failed."""
