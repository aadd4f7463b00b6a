"""Keeps the balancer told: one WatchLoad stream to each known inference instance, renewed when it breaks."""

from __future__ import annotations

import asyncio

from mesh.inference.v1 import inference_service_pb2
from meshkit.calls import Calls
from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.registry.base import Instance, InstanceSet
from meshkit.telemetry import logs, names
from services.router.balancer import Balancer, EngineLoad
from services.router.engine_client import EngineClient

_RETRY_S = 1.0
_log = logs.get_logger(__name__)


class LoadWatch:
    """A task that follows the instance set, and below it one task an instance."""

    def __init__(self, *, instances: InstanceSet, engine: EngineClient, balancer: Balancer, clock: Clock) -> None:
        self._instances = instances
        self._engine = engine
        self._balancer = balancer
        self._clock = clock
        # A watch lasts as long as the instance: no span and no caller's deadline belong to it.
        self._calls = Calls()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """End every watch."""
        tasks = [*self._watches.values(), *([self._following] if self._following else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            self._adjust({instance.id: instance for instance in self._instances.current})
            await self._instances.changed()

    def _adjust(self, known: dict[str, Instance]) -> None:
        for instance_id in set(self._watches) - set(known):
            self._watches.pop(instance_id).cancel()
            self._balancer.forget(instance_id)
        for instance_id in set(known) - set(self._watches):
            self._watches[instance_id] = asyncio.create_task(self._watch(known[instance_id]))

    async def _watch(self, instance: Instance) -> None:
        while True:
            try:
                await self._read(instance)
            except MeshError:
                # Passive health hears of it from real calls; here the old report is just no longer believed.
                pass
            except Exception as problem:
                # A bug must not end the watch: the balancer would then go on with nothing but its own counts.
                _log.error(names.LOG_LOAD_WATCH_FAILED, stack=problem, instance=instance.id)
            self._balancer.forget(instance.id)
            await self._clock.sleep(_RETRY_S)

    async def _read(self, instance: Instance) -> None:
        request = inference_service_pb2.WatchLoadRequest()
        async with self._calls.stream(self._engine.stub(instance).WatchLoad, request, peer=instance.id) as replies:
            async for reply in replies:
                load = reply.load
                self._balancer.report(
                    instance.id,
                    EngineLoad(
                        running_count=load.running_count,
                        waiting_count=load.waiting_count,
                        max_running_count=load.max_running_count,
                        prefill_backlog_tokens=load.prefill_backlog_tokens,
                        is_draining=load.is_draining,
                    ),
                )
