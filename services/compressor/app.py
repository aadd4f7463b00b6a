"""Wires the compressor: which stages run in which order, and who counts."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from mesh.compressor.v1.compressor_service_pb2_grpc import add_CompressorServiceServicer_to_server
from meshkit.chassis import Chassis
from meshkit.picker import Picker
from meshkit.service import Service
from services.compressor.instance_counter import InstanceCounters
from services.compressor.offload import Offload
from services.compressor.pipeline import VERSION, Pipeline
from services.compressor.servicer import CompressorServicer
from services.compressor.settings import CompressorSettings
from services.compressor.stages.json_minify import JsonMinify
from services.compressor.stages.log_template import LogTemplate
from services.compressor.stages.record_table import RecordTable
from services.compressor.stages.stage import Stage
from services.compressor.stages.whitespace import Whitespace
from services.compressor.stages.xml_compact import XmlCompact
from services.compressor.stages.xml_outline import XmlOutline


class CompressorService(Service):
    """The deployable."""

    consul_name = "mesh-compressor"
    grpc_name = "mesh.compressor.v1.CompressorService"

    def __init__(self, servicer: CompressorServicer) -> None:
        self._servicer = servicer

    def add_to(self, server: grpc.aio.Server) -> None:
        add_CompressorServiceServicer_to_server(self._servicer, server)

    async def start(self) -> Mapping[str, str]:
        """Ready at once. Routers take the version for the cache's key from here, before anything is compressed."""
        return {"compressor_version": VERSION}


def lossless_stages() -> tuple[Stage, ...]:
    """In the order in which they run: tables and logs last, since they end what other stages read as JSON or lines."""
    return (JsonMinify(), XmlCompact(), XmlOutline(), Whitespace(), RecordTable(), LogTemplate())


def build(settings: CompressorSettings, chassis: Chassis) -> Service:
    """The service with its real parts."""
    pipeline = Pipeline(
        lossless_stages(),
        offload=Offload(least_chars=settings.work.offload_chars, concurrency=settings.work.concurrency),
        clock=chassis.clock,
    )
    picker = Picker(chassis.registry.watch("mesh-inference"), chassis.clock)
    counters = InstanceCounters(picker, chassis.channels, chassis.calls, timeout_s=settings.counting.timeout_s)
    return CompressorService(CompressorServicer(pipeline, counters, settings.limits))
