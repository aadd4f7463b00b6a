"""Wires the cache: which tiers there are, what runs beside the requests, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import grpc

from mesh.cache.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from meshkit.chassis import Chassis
from meshkit.service import Service
from services.cache.lifetime import Lifetimes
from services.cache.memory_tier import MemoryTier
from services.cache.metrics import TierCollector
from services.cache.response_cache import ResponseCache
from services.cache.semantic.build import build_meaning
from services.cache.semantic.meaning import MeaningLookup
from services.cache.servicer import CacheServicer
from services.cache.settings import CacheSettings
from services.cache.tiered import Level, TieredStore, TierName
from services.cache.valkey_tier import ValkeyTier
from services.cache.write_behind import WriteBehind

_FLUSH_TIMEOUT_S = 1.0


class CacheService(Service):
    """The deployable."""

    consul_name = "mesh-cache"
    grpc_name = "mesh.cache.v1.CacheService"

    def __init__(
        self, servicer: CacheServicer, second_tier: SecondTier | None, meaning: MeaningLookup | None = None
    ) -> None:
        self._servicer = servicer
        self._second_tier = second_tier
        self._meaning = Beside(meaning.run) if meaning is not None else None

    def add_to(self, server: grpc.aio.Server) -> None:
        add_CacheServiceServicer_to_server(self._servicer, server)

    async def start(self) -> Mapping[str, str]:
        """Ready at once: the first tier needs nothing, the second joins when it answers."""
        if self._second_tier is not None:
            self._second_tier.start()
        if self._meaning is not None:
            self._meaning.start()
        return {"tiers": "L1,L2" if self._second_tier is not None else "L1"}

    async def close(self) -> None:
        if self._meaning is not None:
            await self._meaning.close()
        if self._second_tier is not None:
            await self._second_tier.close()


class Beside:
    """Work that runs beside the requests until the service closes."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.create_task(self._work())

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)


class SecondTier:
    """The shared tier with what runs beside the requests: its probe and its writer."""

    def __init__(self, tier: ValkeyTier, writes: WriteBehind) -> None:
        self._tier = tier
        self._writes = writes
        self._running: asyncio.Task[None] | None = None

    @property
    def level(self) -> Level:
        return Level(name=TierName.L2, store=self._tier, writes=self._writes)

    def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write what is queued, within a bound, and let go."""
        if self._running is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_TIMEOUT_S):
                    await self._writes.flush()
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._tier.close()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tier.watch())
            tasks.create_task(self._writes.run())


def build(settings: CacheSettings, chassis: Chassis) -> Service:
    """The service with its real parts."""
    second_tier = _second_tier(settings, chassis) if settings.l2.url else None
    store = TieredStore(tuple(_levels(settings, chassis, second_tier)), chassis.clock)
    meaning = build_meaning(settings.semantic, chassis.clock) if settings.semantic.enabled else None
    cache = ResponseCache(
        store,
        limits=settings.entry,
        lifetimes=_lifetimes(settings),
        clock=chassis.clock,
        meaning=meaning,
        semantic=settings.semantic,
    )
    chassis.metrics_registry.register(TierCollector(store))
    return CacheService(CacheServicer(cache, started_at=chassis.clock.wall()), second_tier, meaning)


def _levels(settings: CacheSettings, chassis: Chassis, second_tier: SecondTier | None) -> Iterator[Level]:
    first = MemoryTier(budget_bytes=settings.l1.budget_bytes, ttl_s=settings.l1.ttl_s, clock=chassis.clock)
    yield Level(name=TierName.L1, store=first)
    if second_tier is not None:
        yield second_tier.level


def _second_tier(settings: CacheSettings, chassis: Chassis) -> SecondTier:
    tier = ValkeyTier(settings.l2, chassis.clock)
    writes = WriteBehind(tier, max_entries=settings.l2.queue_entries, max_bytes=settings.l2.queue_bytes)
    return SecondTier(tier, writes)


def _lifetimes(settings: CacheSettings) -> Lifetimes:
    return Lifetimes(
        default_s=settings.l2.ttl_s if settings.l2.url else settings.l1.ttl_s,
        longest_s=settings.entry.max_ttl_s,
        jitter=settings.entry.ttl_jitter,
        random=random.random,
    )
