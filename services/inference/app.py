"""Wires an inference instance: the model's files, the engine, the servicer, and readiness that follows the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import grpc

from mesh.inference.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server
from meshkit.chassis import Chassis
from meshkit.clock import Clock
from meshkit.service import Service
from meshkit.telemetry import logs, names
from services.inference.echo_engine import EchoEngine
from services.inference.engine_client import EngineClient
from services.inference.engine_port import Engine
from services.inference.launch import engine_launcher
from services.inference.metrics import EngineCollector
from services.inference.model_host import ModelHost
from services.inference.model_loading import fetch_model, load_text
from services.inference.servicer import InferenceServicer
from services.inference.settings import EngineSettings, InferenceSettings, WatchdogSettings
from services.inference.supervisor import Patience
from services.inference.text import TextModel

_log = logs.get_logger(__name__)


class InferenceService(Service):
    """The deployable."""

    consul_name = "mesh-inference"
    grpc_name = "mesh.inference.v1.InferenceService"

    def __init__(self, settings: InferenceSettings, chassis: Chassis, host: ModelHost) -> None:
        self._settings = settings
        self._chassis = chassis
        self._host = host
        self._telling: set[asyncio.Task[None]] = set()

    def add_to(self, server: grpc.aio.Server) -> None:
        servicer = InferenceServicer(self._host, self._chassis.clock, f"inference-mesh {self._chassis.version}")
        add_InferenceServiceServicer_to_server(servicer, server)

    async def start(self) -> Mapping[str, str]:
        """Get the model's files, then wait for a real token from the engine; the tokenizer is read meanwhile."""
        model = await fetch_model(self._settings)
        if self._settings.engine.kind == "echo" or model.directory is None:
            text = await load_text(model)
            engine: Engine = build_echo(self._settings.engine, text, self._chassis.clock)
            self._host.run_on(engine, model.revision)
            ready = await engine.start()
        else:
            engine = build_engine(self._settings, model.directory, self._chassis.clock, model.revision)
            self._host.run_on(engine, model.revision)
            ready, text = await asyncio.gather(engine.start(), load_text(model))
        self._host.read_with(text)
        engine.on_readiness(lambda _: self._tell_health())
        self._host.running.on_drain(self._tell_health)
        return {
            "model": self._host.name,
            "tier": self._settings.model.tier,
            "revision": model.revision,
            "template_digest": text.template_digest,
            "architecture": ready.architecture,
            "context_tokens": str(self._host.limits.context_tokens),
            "tensor_parallel_size": str(ready.tensor_parallel_size),
        }

    @property
    def is_ready(self) -> bool:
        """Whether a request would be served now: the engine draws tokens, and no drain began."""
        return self._host.can_serve

    async def drain(self) -> None:
        await self._host.running.leave()

    async def close(self) -> None:
        await self._host.close()
        await asyncio.gather(*self._telling, return_exceptions=True)

    def _tell_health(self) -> None:
        """Health says what is true now; after a drain began it stays NOT_SERVING."""
        is_serving = self.is_ready
        task = asyncio.get_running_loop().create_task(self._chassis.health.set_serving(is_serving))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        _log.info(names.LOG_SERVING if is_serving else names.LOG_NOT_SERVING, model=self._host.name)


def build(settings: InferenceSettings, chassis: Chassis) -> Service:
    """The service with its real parts; the engine is made when the model's files are there."""
    host = ModelHost(
        name=settings.model_name,
        clock=chassis.clock,
        stream=settings.stream,
        context_tokens=settings.engine.context_tokens,
    )
    chassis.metrics_registry.register(EngineCollector(host))
    return InferenceService(settings, chassis, host)


def build_echo(settings: EngineSettings, text: TextModel, clock: Clock) -> EchoEngine:
    """The test double, over this text side's vocabulary."""
    return EchoEngine(
        clock,
        vocabulary_size=text.vocabulary_size,
        eos_token_id=text.eos_token_ids[0],
        tokens_per_s=settings.echo_tokens_per_s,
    )


def build_engine(settings: InferenceSettings, model_dir: Path, clock: Clock, revision: str = "") -> EngineClient:
    """The real engine, not started yet."""
    engine = settings.engine
    return EngineClient(
        engine_launcher(engine, model_dir, settings.model.cache_dir, nodes=settings.nodes, revision=revision),
        clock,
        patience_of(settings.watchdog),
        most_sequences=engine.max_sequences + engine.max_waiting_sequences,
        retry_after_s=engine.retry_after_s,
        requeue_s=engine.requeue_s,
    )


def patience_of(watchdog: WatchdogSettings) -> Patience:
    """The watchdog's settings as the supervisor takes them."""
    return Patience(
        start_timeout_s=watchdog.start_timeout_s,
        silence_s=watchdog.silence_s,
        longest_step_s=watchdog.longest_step_s,
        shutdown_grace_s=watchdog.shutdown_grace_s,
        first_backoff_s=watchdog.first_backoff_s,
        longest_backoff_s=watchdog.longest_backoff_s,
    )
