"""Wires the cache: which tiers there are, what runs beside the requests, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Iterator, Mapping, Sequence

import grpc

from mesh.cache.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from meshkit.chassis import Chassis
from meshkit.clock import Clock
from meshkit.service import Service
from services.cache.audit import Audit
from services.cache.disk.tier import DiskTier
from services.cache.epoch_file import EpochFile
from services.cache.epoch_keeper import EpochKeeper
from services.cache.flight import FlightTimes
from services.cache.invalidations import Invalidations
from services.cache.lifetime import Lifetimes, TierLifetime
from services.cache.memory_flights import MemoryFlights
from services.cache.memory_tier import MemoryTier
from services.cache.metrics import TierCollector
from services.cache.prefixes.kv_watch import KvWatch
from services.cache.prefixes.placement import Placement
from services.cache.prefixes.prefix_index import PrefixIndex
from services.cache.prefixes.resident import ResidentBlocks
from services.cache.quota import Quotas, TenantMemory
from services.cache.response_cache import ResponseCache
from services.cache.semantic.build import build_meaning
from services.cache.semantic.by_meaning import ByMeaning
from services.cache.semantic.meaning import MeaningLookup
from services.cache.servicer import CacheServicer
from services.cache.settings import CacheSettings, L2Settings, L3Settings
from services.cache.single_flight import SingleFlight
from services.cache.tiered import Level, TieredStore, TierName
from services.cache.transfer import Transfer
from services.cache.valkey_epochs import ValkeyEpochs
from services.cache.valkey_flights import ValkeyFlights
from services.cache.valkey_tier import ValkeyTier
from services.cache.write_behind import WriteBehind

_FLUSH_TIMEOUT_S = 1.0
_EPOCH_FILE = "epochs"


class CacheService(Service):
    """The deployable."""

    consul_name = "mesh-cache"
    grpc_name = "mesh.cache.v1.CacheService"

    def __init__(
        self,
        servicer: CacheServicer,
        epochs: EpochKeeper,
        flights: SingleFlight,
        far_tiers: Sequence[FarTier],
        sizes: TierCollector,
        meaning: MeaningLookup | None,
        kv_watch: KvWatch | None,
    ) -> None:
        self._servicer = servicer
        self._epochs = epochs
        self._flights = flights
        self._far_tiers = far_tiers
        self._sizes = sizes
        self._meaning = meaning
        self._kv_watch = kv_watch
        self._beside: list[asyncio.Task[None]] = []

    def add_to(self, server: grpc.aio.Server) -> None:
        add_CacheServiceServicer_to_server(self._servicer, server)

    async def start(self) -> Mapping[str, str]:
        """Ready at once: the first tier needs nothing, the others join when they answer."""
        await self._epochs.start()
        for tier in self._far_tiers:
            tier.start()
        beside = [self._epochs.run(), self._flights.watch(), self._sizes.watch()]
        if self._meaning is not None:
            beside.append(self._meaning.run())
        if self._kv_watch is not None:
            beside.append(self._kv_watch.run())
        self._beside = [asyncio.create_task(work) for work in beside]
        return {"tiers": ",".join([TierName.L1.name, *(tier.level.name.name for tier in self._far_tiers)])}

    async def close(self) -> None:
        for tier in self._far_tiers:
            await tier.close()
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await self._flights.close()
        await self._epochs.close()


class FarTier:
    """A tier outside this process's memory, with what runs beside the requests: its probe and its writer."""

    def __init__(self, name: TierName, tier: ValkeyTier | DiskTier, settings: L2Settings | L3Settings) -> None:
        self._tier = tier
        self._writes = WriteBehind(tier, max_entries=settings.queue_entries, max_bytes=settings.queue_bytes)
        self._running: asyncio.Task[None] | None = None
        self.level = Level(name=name, store=tier, writes=self._writes)

    def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write what is queued, within a bound, and let go."""
        if self._running is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_TIMEOUT_S):
                    await self._writes.flush()
            self._running.cancel()
            # Bounded: a write that ends in the moment it is cancelled can swallow that, and wait for ever.
            await asyncio.wait({self._running}, timeout=_FLUSH_TIMEOUT_S)
        await self._tier.close()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tier.watch())
            tasks.create_task(self._writes.run())


def build(settings: CacheSettings, chassis: Chassis) -> Service:
    """The service with its real parts."""
    far_tiers = tuple(_far_tiers(settings, chassis.clock))
    levels = (_first_level(settings, chassis.clock), *(tier.level for tier in far_tiers))
    epochs = _epochs(settings, chassis.clock)
    store = TieredStore(levels, chassis.clock, epochs.objection)
    flights = _flights(settings, chassis.clock)
    lifetimes = _lifetimes(settings)
    meaning = build_meaning(settings.semantic, chassis.clock) if settings.semantic.enabled else None
    cache = ResponseCache(
        store,
        flights,
        limits=settings.entry,
        lifetimes=lifetimes,
        clock=chassis.clock,
        epochs=epochs,
        by_meaning=ByMeaning(meaning, settings.semantic),
    )
    sizes = TierCollector(store, chassis.clock)
    chassis.metrics_registry.register(sizes)
    resident = ResidentBlocks(max_blocks=settings.prefix.max_blocks)
    servicer = CacheServicer(
        cache,
        flights,
        invalidations=Invalidations(store, epochs, Audit(), chassis.clock),
        transfer=Transfer(store, epochs, limits=settings.entry, clock=chassis.clock),
        placement=Placement(PrefixIndex(budget_bytes=settings.prefix.budget_bytes), resident)
        if settings.prefix.enabled
        else None,
        started_at=chassis.clock.wall(),
    )
    kv_watch = _kv_watch(chassis, resident) if settings.prefix.enabled else None
    return CacheService(servicer, epochs, flights, far_tiers, sizes, meaning, kv_watch)


def _kv_watch(chassis: Chassis, resident: ResidentBlocks) -> KvWatch:
    instances = chassis.registry.watch("mesh-inference")
    return KvWatch(instances=instances, channels=chassis.channels, resident=resident, clock=chassis.clock)


def _epochs(settings: CacheSettings, clock: Clock) -> EpochKeeper:
    folder = settings.l3.directory
    return EpochKeeper(
        settings.epochs,
        longest_life_s=settings.entry.max_ttl_s + settings.entry.stale_s,
        clock=clock,
        shared=ValkeyEpochs(settings.l2, settings.epochs, clock) if settings.l2.url else None,
        file=EpochFile(folder / _EPOCH_FILE, max_rules=settings.epochs.max_rules) if folder is not None else None,
    )


def _first_level(settings: CacheSettings, clock: Clock) -> Level:
    is_only = not settings.l2.url and settings.l3.directory is None
    # What is stale must lie somewhere: with no other tier, here.
    ttl_s = settings.l1.ttl_s + (settings.entry.stale_s if is_only else 0.0)
    lifetime = TierLifetime(ttl_s=ttl_s, jitter=settings.entry.ttl_jitter)
    store = TenantMemory(
        budget_bytes=settings.l1.budget_bytes,
        quota_of=Quotas(settings.quota).of,
        memory=lambda budget_bytes: MemoryTier(budget_bytes=budget_bytes, lifetime=lifetime, clock=clock),
    )
    return Level(name=TierName.L1, store=store)


def _far_tiers(settings: CacheSettings, clock: Clock) -> Iterator[FarTier]:
    folder = settings.l3.directory
    if settings.l2.url:
        is_last = folder is None
        lifetime = TierLifetime(ttl_s=math.inf if is_last else settings.l2.ttl_s, jitter=settings.entry.ttl_jitter)
        yield FarTier(TierName.L2, ValkeyTier(settings.l2, lifetime, clock), settings.l2)
    if folder is not None:
        yield FarTier(TierName.L3, DiskTier(folder, settings.l3, clock), settings.l3)


def _flights(settings: CacheSettings, clock: Clock) -> SingleFlight:
    own = settings.flight
    times = FlightTimes(ttl_s=own.ttl_s, linger_s=own.linger_s, keep_s=own.keep_s)
    return SingleFlight(
        shared=ValkeyFlights(settings.l2, times, clock) if settings.l2.url else None,
        local=MemoryFlights(times, clock, max_bytes=own.max_bytes),
        times=times,
        clock=clock,
        poll_s=own.poll_s,
    )


def _lifetimes(settings: CacheSettings) -> Lifetimes:
    """An entry's own life is what the last tier gives it."""
    last = settings.l3 if settings.l3.directory else settings.l2 if settings.l2.url else settings.l1
    return Lifetimes(
        default_s=last.ttl_s,
        longest_s=settings.entry.max_ttl_s,
        jitter=settings.entry.ttl_jitter,
        random=random.random,
    )
