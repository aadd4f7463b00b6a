"""Wires the console: OTLP on the gRPC server, the queue and its writer, the pages on a server of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import grpc
from aiohttp import web

from meshkit.chassis import Chassis
from meshkit.server import PortTaken
from meshkit.service import Service
from meshkit.telemetry import logs, names
from services.console import otlp, servicer
from services.console.caps import Caps
from services.console.intake import Intake, Limits
from services.console.metrics import ConsoleMetrics
from services.console.reader import Reader
from services.console.reading import Reading
from services.console.settings import ConsoleSettings
from services.console.store import Store
from services.console.web import Web

_HTTP_SHUTDOWN_S = 1.0
_log = logs.get_logger(__name__)


class ConsoleService(Service):
    """Receives, keeps and shows traces. The chassis opens spans only for the mesh's own RPCs, never for Export."""

    consul_name = "mesh-console"
    grpc_name = "opentelemetry.proto.collector.trace.v1.TraceService"

    def __init__(self, settings: ConsoleSettings, intake: Intake, reading: Reading, pages: Web) -> None:
        self._settings = settings
        self._intake = intake
        self._reading = reading
        self._pages = pages
        self._writer: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None

    @property
    def http_port(self) -> int:
        """Where the pages are served; 0 before the start."""
        return self._runner.addresses[0][1] if self._runner and self._runner.addresses else 0

    def add_to(self, server: grpc.aio.Server) -> None:
        servicer.add_to(server, self._intake)

    async def start(self) -> Mapping[str, str]:
        self._writer = asyncio.create_task(self._intake.run(), name="span-writer")
        await self._serve_http()
        return {"http": f"{self._settings.http.host}:{self.http_port}"}

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
        await self._intake.close()
        self._reading.close()

    async def _serve_http(self) -> None:
        http = self._settings.http
        self._runner = web.AppRunner(self._pages.application(), access_log=None, shutdown_timeout=_HTTP_SHUTDOWN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, http.host, http.port).start()
        except OSError:
            raise PortTaken(http.host, http.port, "MESH_CONSOLE_HTTP__PORT") from None


def build(settings: ConsoleSettings, chassis: Chassis) -> ConsoleService:
    """The console, with its real parts."""
    store = Store(settings.store.path, Caps(max_bytes=settings.store.max_bytes, max_age_s=settings.store.max_age_s))
    limits = Limits(
        queue_spans=settings.intake.queue_spans,
        queue_bytes=settings.intake.queue_bytes,
        flush_interval_s=settings.intake.flush_interval_s,
    )
    intake = Intake(
        store, limits, chassis.clock, on_problem=lambda text: _log.error(names.LOG_CONSOLE_STORE_FAILED, problem=text)
    )
    ConsoleMetrics(intake, chassis.metrics_registry)
    reader = Reader(settings.store.path, otlp.BODY_READER, chassis.clock, longest_read_s=settings.http.longest_read_s)
    reading = Reading(reader, chassis.clock)
    pages = Web(reading, intake, host=settings.http.host, max_bytes=settings.store.max_bytes)
    return ConsoleService(settings, intake, reading, pages)
