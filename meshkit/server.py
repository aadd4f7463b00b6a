"""A service's life: bind, load, SERVING, register; the first SIGTERM drains, the second exits.

Draining: leave the registry -> NOT_SERVING -> wait until watchers have noticed -> take nothing new -> wait for calls
in flight, bounded -> stop -> flush telemetry, bounded. No call in flight is lost unless it outlasts the bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import TypeVar

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from meshkit.channels import SERVER_OPTIONS
from meshkit.chassis import Chassis, build_chassis, server_credentials
from meshkit.interceptor import MeshInterceptor
from meshkit.listening import PortTaken, check_free
from meshkit.metrics_endpoint import MetricsEndpoint
from meshkit.registry.base import Registration
from meshkit.rpc_metrics import RpcMetrics
from meshkit.served_call import CallSite
from meshkit.service import Service
from meshkit.settings import LARGEST_MESSAGE_BYTES, ServerSettings, ServiceSettings
from meshkit.telemetry import logs, names

__all__ = ["PortTaken", "Server", "serve"]

S = TypeVar("S", bound=ServiceSettings)

_INFRASTRUCTURE = (
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
    reflection.SERVICE_NAME,
)
_EVERY_ADDRESS = ("0.0.0.0", "::", "[::]")
_STOP_GRACE_S = 0.5
_POLL_S = 0.02
_log = logs.get_logger(__name__)


class Server:
    """One service on one gRPC server."""

    def __init__(
        self, settings: ServiceSettings, chassis: Chassis, service: Service, *, env_prefix: str = "MESH_"
    ) -> None:
        self._settings = settings
        self._chassis = chassis
        self._service = service
        self._env_prefix = env_prefix
        self._metrics = RpcMetrics(chassis.metrics_registry)
        self._metrics_endpoint: MetricsEndpoint | None = None
        self._interceptor = MeshInterceptor(
            CallSite(tracer=chassis.tracing.tracer, identity=settings.identity),
            self._metrics,
            max_message_bytes=settings.server.max_message_bytes,
        )
        self._server = grpc.aio.server(
            interceptors=[self._interceptor],
            options=(*SERVER_OPTIONS, ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES)),
        )
        self.port = 0

    async def start(self) -> None:
        """Bind, load, register; raises PortTaken, or what the service's own start raised."""
        health_pb2_grpc.add_HealthServicer_to_server(self._chassis.health.servicer, self._server)
        self._service.add_to(self._server)
        channelz.add_channelz_servicer(self._server)
        reflection.enable_server_reflection((self._service.grpc_name, *_INFRASTRUCTURE), self._server)
        await self._chassis.health.set_serving(False)
        self.port = self._bind(self._settings.server)
        await self._server.start()
        self._serve_metrics(self._settings.server)
        _log.info(names.LOG_STARTED, port=self.port, instance=self._chassis.instance_id)
        metadata = await self._service.start()
        self._interceptor.open()
        # First, so that the registry hears the truth; what the service says of itself later is not overwritten.
        if self._service.is_ready:
            await self._chassis.health.set_serving(True)
        await self._chassis.registry.register(self._registration(metadata))
        _log.info(names.LOG_SERVING, port=self.port, instance=self._chassis.instance_id)

    async def drain(self) -> None:
        """Leave without losing a call in flight, within `drain_timeout_s`."""
        _log.info(names.LOG_DRAINING, active=self._metrics.active_count)
        await self._chassis.registry.deregister()
        await self._chassis.health.set_serving(False)
        await self._chassis.clock.sleep(self._settings.server.drain_wait_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.server.drain_timeout_s):
                await self._service.drain()
                while self._metrics.active_count:
                    await self._chassis.clock.sleep(_POLL_S)

    async def close(self) -> None:
        """Stop at once, flush telemetry within its bound. Every step is taken, also after one that raised."""
        async with contextlib.AsyncExitStack() as last_steps_first:
            then = last_steps_first.push_async_callback
            then(asyncio.to_thread, self._chassis.tracing.shutdown)
            if self._metrics_endpoint is not None:
                then(asyncio.to_thread, self._metrics_endpoint.close)
            then(self._chassis.channels.close)
            then(self._chassis.registry.close)
            then(self._service.close)
            then(self._server.stop, _STOP_GRACE_S)
            then(self._chassis.registry.deregister)
        _log.info(names.LOG_STOPPED)

    def _bind(self, server: ServerSettings) -> int:
        variable = f"{self._env_prefix}SERVER__PORT"
        check_free(server.host, server.port, variable)
        credentials = server_credentials(server)
        address = f"{server.host}:{server.port}"
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError:
            raise PortTaken(server.host, server.port, variable) from None

    def _serve_metrics(self, server: ServerSettings) -> None:
        if not server.metrics_port:
            return
        check_free(server.host, server.metrics_port, f"{self._env_prefix}SERVER__METRICS_PORT")
        self._metrics_endpoint = MetricsEndpoint(server.host, server.metrics_port, self._chassis.metrics_registry)

    def _registration(self, metadata: Mapping[str, str]) -> Registration:
        server = self._settings.server
        return Registration(
            id=self._chassis.instance_id,
            service=self._service.consul_name,
            host=_advertised_host(server),
            port=self.port,
            grpc_name=self._service.grpc_name,
            metadata={"version": self._chassis.version, **metadata},
            uses_tls=server.tls_certificate is not None,
            is_serving=lambda: self._chassis.health.is_serving,
        )


async def serve(name: str, settings: S, build: Callable[[S, Chassis], Service], service_type: type[Service]) -> None:
    """Run one service until it is told to stop."""
    logs.configure(f"mesh-{name}", settings.telemetry.log_level)
    chassis = build_chassis(
        settings,
        service=service_type.consul_name,
        grpc_name=service_type.grpc_name,
        instance_id=_instance_id(service_type.consul_name, settings.server),
    )
    server = Server(settings, chassis, build(settings, chassis), env_prefix=f"MESH_{name.upper()}_")
    stopping = first_signal()
    try:
        starting = asyncio.ensure_future(server.start())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        starting.result()
        _leave_startup_objects_alone()
        await stopping
        await server.drain()
    finally:
        await server.close()


def _instance_id(consul_name: str, server: ServerSettings) -> str:
    """The same after a restart, so that the registry replaces the old entry; unique where the system chose the port."""
    place = server.port or f"pid{os.getpid()}"
    return f"{consul_name}-{_advertised_host(server)}-{place}"


def _advertised_host(server: ServerSettings) -> str:
    """What others connect to. A server on every address of its machine or container is found by the first of them."""
    if server.advertise_host or server.host not in _EVERY_ADDRESS:
        return server.advertise_host or server.host
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return socket.gethostname()


def _leave_startup_objects_alone() -> None:
    """Take modules and settings out of garbage collection: walking them all held every stream up for tens of ms."""
    gc.collect()
    gc.freeze()


def first_signal() -> asyncio.Future[None]:
    """Done at the first SIGTERM or SIGINT; the second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[None] = loop.create_future()

    def on_signal(number: int) -> None:
        if stopping.done():
            os._exit(128 + number)
        stopping.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stopping
