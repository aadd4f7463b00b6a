"""A service as it really runs, on a free loopback port, for the length of a test."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from prometheus_client import CollectorRegistry

from meshkit.calls import Calls
from meshkit.channels import ChannelPool
from meshkit.chassis import Chassis, channel_credentials
from meshkit.clock import Clock, SystemClock
from meshkit.health import Health
from meshkit.registry.base import Registry
from meshkit.server import Server
from meshkit.service import Service
from meshkit.settings import ServiceSettings
from meshkit.telemetry.tracing import Tracing
from meshkit.testing.registry import FakeRegistry

S = TypeVar("S", bound=ServiceSettings)
_INSTANCE_NUMBERS = itertools.count(1)


def test_chassis(
    settings: ServiceSettings,
    service_type: type[Service],
    *,
    registry: Registry | None = None,
    clock: Clock | None = None,
) -> Chassis:
    """A chassis with a registry in memory; no telemetry leaves the process, unless settings name a receiver."""
    metrics_registry = CollectorRegistry()
    tracing = Tracing(
        settings.telemetry,
        service=service_type.consul_name,
        instance_id="test",
        version="0+test",
        metrics_registry=metrics_registry,
    )
    if registry is None or isinstance(registry, FakeRegistry):
        registry = (registry or FakeRegistry()).as_another_process()
    return Chassis(
        clock=clock or SystemClock(),
        registry=registry,
        channels=ChannelPool(channel_credentials(settings.server)),
        calls=Calls(tracing.tracer),
        health=Health(service_type.grpc_name),
        tracing=tracing,
        metrics_registry=metrics_registry,
        instance_id=f"{service_type.consul_name}-test-{next(_INSTANCE_NUMBERS)}",
        version="0+test",
    )


test_chassis.__test__ = False  # type: ignore[attr-defined]  # its name is no test's


@contextlib.asynccontextmanager
async def running_server(
    settings: S,
    build: Callable[[S, Chassis], Service],
    service_type: type[Service],
    *,
    registry: Registry | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[str]:
    """Serve `build(settings, chassis)` with the chassis' own interceptors and life; yield its `host:port`."""
    chassis = test_chassis(settings, service_type, registry=registry, clock=clock)
    server = Server(settings, chassis, build(settings, chassis))
    try:
        await server.start()
        yield f"{settings.server.host}:{server.port}"
    finally:
        await server.close()
