"""Follows the KV events of every known inference instance, so that it is known which blocks lie where."""

from __future__ import annotations

import asyncio
from typing import Any

from mesh.inference.v1 import inference_service_pb2 as pb
from mesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from meshkit.calls import Calls
from meshkit.channels import ChannelPool
from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.registry.base import Instance, InstanceSet
from meshkit.telemetry import logs, names
from services.cache.prefixes.resident import MissedEvents, ResidentBlocks

RETRY_S = 1.0
_log = logs.get_logger(__name__)


class KvWatch:
    """One stream to each instance, renewed when it breaks; an instance that goes away is forgotten."""

    def __init__(
        self, *, instances: InstanceSet, channels: ChannelPool, resident: ResidentBlocks, clock: Clock
    ) -> None:
        self._instances = instances
        self._channels = channels
        self._resident = resident
        self._clock = clock
        # A watch lasts as long as the instance: no span and no caller's deadline belong to it.
        self._calls = Calls()

    async def run(self) -> None:
        """Watch until cancelled."""
        watches: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                known = {instance.id: instance for instance in self._instances.current}
                for gone in set(watches) - set(known):
                    watches.pop(gone).cancel()
                    self._resident.forget(gone)
                for new in set(known) - set(watches):
                    watches[new] = asyncio.create_task(self._watch(known[new]))
                await self._instances.changed()
        finally:
            for watch in watches.values():
                watch.cancel()
            await asyncio.gather(*watches.values(), return_exceptions=True)

    async def _watch(self, instance: Instance) -> None:
        while True:
            try:
                await self._read(instance)
            except MissedEvents:
                continue  # a snapshot comes first on the next stream
            except MeshError:
                # Gone, restarting, or an engine without KV events: it holds nothing that could be told.
                pass
            except Exception as problem:
                # A bug must not end the watch: hints would then name what has long gone.
                _log.error(names.LOG_KV_WATCH_FAILED, stack=problem, instance=instance.id)
            self._resident.forget(instance.id)
            await self._clock.sleep(RETRY_S)

    async def _read(self, instance: Instance) -> None:
        stub: Any = self._channels.stub(InferenceServiceStub, instance.address)
        request = pb.SubscribeKvEventsRequest()
        async with self._calls.stream(stub.SubscribeKvEvents, request, peer=instance.id) as replies:
            async for reply in replies:
                self._take(instance, reply)

    def _take(self, instance: Instance, reply: pb.SubscribeKvEventsResponse) -> None:
        kind = reply.WhichOneof("event")
        if kind == "snapshot":
            self._resident.begin(
                instance.id,
                model=instance.metadata.get("model", ""),
                revision=instance.metadata.get("revision", ""),
                number=reply.sequence,
                hashes=reply.snapshot.block_hashes,
            )
        else:
            self._resident.change(
                instance.id, reply.sequence, stored=reply.stored.block_hashes, evicted=reply.evicted.block_hashes
            )
