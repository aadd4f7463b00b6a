"""The cache's watch over engines' KV events, against a server that says what a test tells it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from mesh.inference.v1 import inference_service_pb2 as pb
from mesh.inference.v1 import inference_service_pb2_grpc
from meshkit.channels import ChannelPool
from meshkit.clock import SystemClock
from meshkit.testing import FakeRegistry
from services.cache.prefixes.kv_watch import KvWatch
from services.cache.prefixes.resident import ResidentBlocks

PATIENCE_S = 20.0
ENGINE = {"model": "m", "revision": "r"}


class ToldEngine(inference_service_pb2_grpc.InferenceServiceServicer):
    """Sends what is put into `events` to its one follower; None ends the stream."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[pb.SubscribeKvEventsResponse | None] = asyncio.Queue()
        self.subscriptions: list[pb.SubscribeKvEventsRequest] = []

    async def SubscribeKvEvents(self, request: Any, context: Any) -> AsyncIterator[pb.SubscribeKvEventsResponse]:
        self.subscriptions.append(request)
        while (event := await self.events.get()) is not None:
            yield event

    def say(self, number: int, **event: list[int]) -> None:
        kind, hashes = next(iter(event.items()))
        blocks = pb.KvBlocks(block_hashes=hashes, block_tokens=16)
        self.events.put_nowait(pb.SubscribeKvEventsResponse(sequence=number, **{kind: blocks}))


@contextlib.asynccontextmanager
async def told_engine() -> AsyncIterator[tuple[ToldEngine, str]]:
    engine, server = ToldEngine(), grpc.aio.server()
    inference_service_pb2_grpc.add_InferenceServiceServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield engine, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def watching(registry: FakeRegistry) -> AsyncIterator[ResidentBlocks]:
    resident, channels = ResidentBlocks(max_blocks=1000), ChannelPool(None)
    instances = registry.watch("mesh-inference")
    watch = KvWatch(instances=instances, channels=channels, resident=resident, clock=SystemClock())
    running = asyncio.create_task(watch.run())
    try:
        yield resident
    finally:
        running.cancel()
        await asyncio.wait({running})
        await channels.close()


async def until(resident: ResidentBlocks, runs: dict[str, int]) -> None:
    """Return when so many of the blocks 1 to 5 lie in each engine."""
    async with asyncio.timeout(PATIENCE_S):
        while resident.runs(range(1, 6), model="m", revisions=["r"]) != runs:
            await asyncio.sleep(0.005)


async def test_a_snapshot_and_then_every_change_is_followed() -> None:
    registry = FakeRegistry()
    async with told_engine() as (engine, address), watching(registry) as resident:
        registry.announce("mesh-inference", address, ENGINE, id="one")
        engine.say(7, snapshot=[1, 2])
        await until(resident, {"one": 2})
        engine.say(8, stored=[3, 4])
        await until(resident, {"one": 4})
        engine.say(9, evicted=[2])
        await until(resident, {"one": 1})


async def test_after_a_gap_the_watch_asks_for_a_snapshot_and_believes_nothing_before() -> None:
    registry = FakeRegistry()
    async with told_engine() as (engine, address), watching(registry) as resident:
        registry.announce("mesh-inference", address, ENGINE, id="one")
        engine.say(7, snapshot=[1, 2, 3])
        await until(resident, {"one": 3})
        engine.say(9, stored=[4])
        await until(resident, {})
        engine.events.put_nowait(None)
        engine.say(20, snapshot=[1])
        await until(resident, {"one": 1})
        assert not any(request.HasField("after_sequence") for request in engine.subscriptions)


async def test_an_engine_whose_link_breaks_holds_nothing_until_it_is_heard_again() -> None:
    registry = FakeRegistry()
    async with told_engine() as (engine, address), watching(registry) as resident:
        registry.announce("mesh-inference", address, ENGINE, id="one")
        engine.say(7, snapshot=[1, 2, 3])
        await until(resident, {"one": 3})
        engine.events.put_nowait(None)
        await until(resident, {})
        engine.say(1, snapshot=[1, 2])
        await until(resident, {"one": 2})


async def test_an_instance_that_goes_away_is_forgotten_and_the_others_stay() -> None:
    registry = FakeRegistry()
    async with told_engine() as (first, address), told_engine() as (second, other), watching(registry) as resident:
        gone = registry.announce("mesh-inference", address, ENGINE, id="one")
        registry.announce("mesh-inference", other, ENGINE, id="two")
        first.say(7, snapshot=[1])
        second.say(3, snapshot=[1, 2])
        await until(resident, {"one": 1, "two": 2})
        registry.withdraw(gone)
        await until(resident, {"two": 2})
