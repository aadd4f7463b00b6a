"""Wires the compressor: which stages run in which order, and who counts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from mesh.compressor.v1.compressor_service_pb2_grpc import add_CompressorServiceServicer_to_server
from meshkit.chassis import Chassis
from meshkit.clock import Clock
from meshkit.embedding.minilm import MiniLm
from meshkit.embedding.words import MiniLmWords
from meshkit.picker import Picker
from meshkit.service import Service
from services.compressor.bounded import BoundedStore
from services.compressor.choice import Chooser
from services.compressor.conversation import Conversations
from services.compressor.expansions import Expansions
from services.compressor.hosted_counter import HostedCounters
from services.compressor.instance_counter import InstanceCounters
from services.compressor.offload import Offload
from services.compressor.pipeline import Pipeline
from services.compressor.quality.calibrated import Calibrated
from services.compressor.quality.evidence import packaged_evidence
from services.compressor.selection.port import Selector
from services.compressor.selection.selection import Selection
from services.compressor.servicer import CompressorServicer
from services.compressor.sessions import Sessions
from services.compressor.settings import CompressorSettings, KeptSettings, SummarySettings
from services.compressor.stages.html_compact import HtmlCompact
from services.compressor.stages.json_minify import JsonMinify
from services.compressor.stages.log_rows import LogRows
from services.compressor.stages.log_template import LogTemplate
from services.compressor.stages.record_table import RecordTable
from services.compressor.stages.stage import Stage
from services.compressor.stages.whitespace import Whitespace
from services.compressor.stages.xml_compact import XmlCompact
from services.compressor.stages.xml_outline import XmlOutline
from services.compressor.summary.instance_summarizer import InstanceSummarizer
from services.compressor.summary.summing import Summaries


class CompressorService(Service):
    """The deployable."""

    consul_name = "mesh-compressor"
    grpc_name = "mesh.compressor.v1.CompressorService"

    def __init__(self, servicer: CompressorServicer, version: str) -> None:
        self._servicer = servicer
        self._version = version

    def add_to(self, server: grpc.aio.Server) -> None:
        add_CompressorServiceServicer_to_server(self._servicer, server)

    async def start(self) -> Mapping[str, str]:
        """Ready at once. Routers take the version for the cache's key from here, before anything is compressed."""
        return {"compressor_version": self._version}


def lossless_stages() -> tuple[Stage, ...]:
    """In the order in which they run: tables and logs last, since they end what other stages read as JSON or lines; of
    the two for logs the shorter first, which a floor of quality may undo."""
    return (
        JsonMinify(),
        XmlCompact(),
        HtmlCompact(),
        XmlOutline(),
        Whitespace(),
        RecordTable(),
        LogTemplate(),
        LogRows(),
    )


def build(settings: CompressorSettings, chassis: Chassis, *, selector: Selector | None = None) -> Service:
    """The service with its real parts; `selector` replaces the packaged one."""
    picker = Picker(chassis.registry.watch("mesh-inference"), chassis.clock)
    summaries = _summaries(settings.summary, chassis, picker)
    pipeline = _pipeline(settings, chassis, selector or packaged_selector(), summaries)
    servicer = CompressorServicer(
        pipeline,
        Conversations(pipeline, Sessions(_store(settings.sessions, chassis.clock))),
        Expansions(_store(settings.expansions, chassis.clock), secrets.token_bytes(32)),
        InstanceCounters(picker, chassis.channels, chassis.calls, timeout_s=settings.counting.timeout_s),
        HostedCounters(settings.counting.tiktoken_dir),
        settings.limits,
    )
    return CompressorService(servicer, pipeline.version)


def _summaries(settings: SummarySettings, chassis: Chassis, picker: Picker) -> Summaries | None:
    """None where the deployment allows none."""
    if not settings.tier:
        return None
    summarizer = InstanceSummarizer(settings, picker, chassis.channels, chassis.calls)
    return Summaries(summarizer, least_tokens=settings.least_tokens, most=settings.max_texts)


def _pipeline(
    settings: CompressorSettings, chassis: Chassis, selector: Selector, summaries: Summaries | None
) -> Pipeline:
    stages = lossless_stages()
    return Pipeline(
        stages,
        offload=Offload(least_chars=settings.work.offload_chars, concurrency=settings.work.concurrency),
        clock=chassis.clock,
        selector=selector,
        summaries=summaries,
        chooser=chooser(
            stages,
            least_format_quality=settings.formats.min_quality,
            micro_usd_per_s=settings.benefit.micro_usd_per_s,
        ),
    )


def packaged_selector() -> Selector:
    """What `fitted.json` was measured with."""
    return Selection(MiniLmWords(), MiniLm())


def chooser(stages: Sequence[Stage], *, least_format_quality: float = 0.0, micro_usd_per_s: float = 0.0) -> Chooser:
    """Weighs versions by what was measured of the stages and of selection; a stage without evidence by its prior."""
    evidence = packaged_evidence()
    return Chooser(
        {stage.name: stage.quality for stage in stages} | dict(evidence.lossless),
        forecast=Calibrated(evidence),
        least_format_quality=least_format_quality,
        micro_usd_per_s=micro_usd_per_s,
    )


def _store(settings: KeptSettings, clock: Clock) -> BoundedStore[Any, Any]:
    return BoundedStore(max_bytes=settings.max_bytes, ttl_s=settings.ttl_s, clock=clock)
