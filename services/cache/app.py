"""Wires the cache: which tiers there are, what runs beside the requests, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Mapping

import grpc

from mesh.cache.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from meshkit.chassis import Chassis
from meshkit.service import Service
from services.cache.flight import FlightTimes
from services.cache.lifetime import Lifetimes
from services.cache.memory_flights import MemoryFlights
from services.cache.memory_tier import MemoryTier
from services.cache.metrics import TierCollector
from services.cache.response_cache import ResponseCache
from services.cache.servicer import CacheServicer
from services.cache.settings import CacheSettings
from services.cache.single_flight import SingleFlight
from services.cache.tiered import Level, TieredStore, TierName
from services.cache.valkey_flights import ValkeyFlights
from services.cache.valkey_tier import ValkeyTier
from services.cache.write_behind import WriteBehind

_FLUSH_TIMEOUT_S = 1.0


class CacheService(Service):
    """The deployable."""

    consul_name = "mesh-cache"
    grpc_name = "mesh.cache.v1.CacheService"

    def __init__(self, servicer: CacheServicer, second_tier: SecondTier | None) -> None:
        self._servicer = servicer
        self._second_tier = second_tier

    def add_to(self, server: grpc.aio.Server) -> None:
        add_CacheServiceServicer_to_server(self._servicer, server)

    async def start(self) -> Mapping[str, str]:
        """Ready at once: the first tier needs nothing, the second joins when it answers."""
        if self._second_tier is not None:
            self._second_tier.start()
        return {"tiers": "L1,L2" if self._second_tier is not None else "L1"}

    async def close(self) -> None:
        if self._second_tier is not None:
            await self._second_tier.close()


class SecondTier:
    """The shared tier with what runs beside the requests: its probe and its writer."""

    def __init__(self, tier: ValkeyTier, writes: WriteBehind) -> None:
        self.tier = tier
        self._writes = writes
        self._running: asyncio.Task[None] | None = None

    @property
    def level(self) -> Level:
        return Level(name=TierName.L2, store=self.tier, writes=self._writes)

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
        await self.tier.close()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.tier.watch())
            tasks.create_task(self._writes.run())


def build(settings: CacheSettings, chassis: Chassis) -> Service:
    """The service with its real parts."""
    second_tier = _second_tier(settings, chassis) if settings.l2.url else None
    store = TieredStore(tuple(_levels(settings, chassis, second_tier)), chassis.clock)
    flights = _flights(settings, chassis, second_tier)
    cache = ResponseCache(store, flights, limits=settings.entry, lifetimes=_lifetimes(settings), clock=chassis.clock)
    chassis.metrics_registry.register(TierCollector(store))
    return CacheService(CacheServicer(cache, flights, started_at=chassis.clock.wall()), second_tier)


def _levels(settings: CacheSettings, chassis: Chassis, second_tier: SecondTier | None) -> Iterator[Level]:
    first = MemoryTier(budget_bytes=settings.l1.budget_bytes, ttl_s=settings.l1.ttl_s, clock=chassis.clock)
    yield Level(name=TierName.L1, store=first)
    if second_tier is not None:
        yield second_tier.level


def _second_tier(settings: CacheSettings, chassis: Chassis) -> SecondTier:
    tier = ValkeyTier(settings.l2, chassis.clock)
    writes = WriteBehind(tier, max_entries=settings.l2.queue_entries, max_bytes=settings.l2.queue_bytes)
    return SecondTier(tier, writes)


def _flights(settings: CacheSettings, chassis: Chassis, second_tier: SecondTier | None) -> SingleFlight:
    own = settings.flight
    times = FlightTimes(ttl_s=own.ttl_s, linger_s=own.linger_s, keep_s=own.keep_s)
    return SingleFlight(
        shared=ValkeyFlights(second_tier.tier, times) if second_tier is not None else None,
        local=MemoryFlights(times, chassis.clock, max_bytes=own.max_bytes),
        times=times,
        clock=chassis.clock,
        poll_s=own.poll_s,
    )


def _lifetimes(settings: CacheSettings) -> Lifetimes:
    return Lifetimes(
        default_s=settings.l2.ttl_s if settings.l2.url else settings.l1.ttl_s,
        longest_s=settings.entry.max_ttl_s,
        jitter=settings.entry.ttl_jitter,
        random=random.random,
    )
