"""Wires a router: the one place with real constructors."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from mesh.router.v1 import router_service_pb2_grpc
from meshkit.calls import Calls
from meshkit.chassis import Chassis
from meshkit.picker import Picker
from meshkit.retry import RetryBudget
from meshkit.service import Service
from services.router.admission import Admission
from services.router.answering import Answering
from services.router.attempts import Attempts
from services.router.balancer import Balancer
from services.router.cache_client import CacheClient
from services.router.catalogue import Catalogue
from services.router.commits import Commits
from services.router.compressor_client import CompressorClient
from services.router.engine_client import EngineClient
from services.router.flights import Flights
from services.router.journal import Journal
from services.router.load_watch import LoadWatch
from services.router.observation import Observation
from services.router.pricing import Price
from services.router.regenerations import Regenerations
from services.router.servicer import RouterServicer
from services.router.settings import RouterSettings, TierSettings

_UNTRACED = Calls()
"""Carries the trace on without a client span: a request's own span says what cache and compressor could not do."""


class RouterServiceApp(Service):
    """The router as the chassis runs it."""

    consul_name = "mesh-router"
    grpc_name = "mesh.router.v1.RouterService"

    def __init__(
        self,
        *,
        servicer: RouterServicer,
        admission: Admission,
        commits: Commits,
        regenerations: Regenerations,
        load_watch: LoadWatch,
    ) -> None:
        self._servicer = servicer
        self._admission = admission
        self._commits = commits
        self._regenerations = regenerations
        self._load_watch = load_watch

    def add_to(self, server: grpc.aio.Server) -> None:
        router_service_pb2_grpc.add_RouterServiceServicer_to_server(self._servicer, server)

    async def start(self) -> Mapping[str, str]:
        self._load_watch.start()
        return {}

    async def drain(self) -> None:
        self._admission.close()
        await self._regenerations.close()
        await self._commits.drain()

    async def close(self) -> None:
        await self._load_watch.close()


def build(settings: RouterSettings, chassis: Chassis) -> RouterServiceApp:
    """The router with its real parts."""
    clock, calls, channels = chassis.clock, chassis.calls, chassis.channels
    observation = Observation(chassis.metrics_registry, chassis.tracing.tracer)
    picker = Picker(chassis.registry.watch("mesh-inference"), clock)
    balancer = Balancer()
    engine = EngineClient(channels=channels, calls=calls)
    journal = Journal()
    admission = Admission(
        max_active=settings.admission.max_active,
        max_waiting=settings.admission.max_waiting,
        max_wait_s=settings.admission.max_wait_s,
    )
    catalogue = Catalogue({name: _price(tier) for name, tier in settings.tiers.items()}, settings.default_model)
    cache = _cache_client(settings, chassis) if settings.cache.is_enabled else None
    commits = Commits(cache, observation, grace_s=settings.cache.commit_grace_s)
    regenerations = Regenerations(
        admission=admission,
        commits=commits,
        observer=observation,
        clock=clock,
        max_count=settings.cache.max_regenerations,
        timeout_s=settings.cache.regeneration_timeout_s,
    )
    attempts = Attempts(
        engine=engine,
        picker=picker,
        balancer=balancer,
        budget=RetryBudget(ratio=settings.retry.budget_ratio, burst=settings.retry.budget_burst),
        observer=observation,
        clock=clock,
        max_attempts=settings.retry.max_attempts,
        first_backoff_s=settings.retry.first_backoff_s,
    )
    answering = Answering(
        admission=admission,
        catalogue=catalogue,
        picker=picker,
        flights=Flights(cache=cache, attempts=attempts, observer=observation, clock=clock),
        journal=journal,
        cache=cache,
        compressor=_compressor_client(settings, chassis) if settings.compression.is_enabled else None,
        commits=commits,
        regenerations=regenerations,
        observer=observation,
        clock=clock,
        flush_interval_s=settings.flush_interval_s,
    )
    servicer = RouterServicer(
        answering=answering,
        catalogue=catalogue,
        picker=picker,
        balancer=balancer,
        engine=engine,
        journal=journal,
        limits=settings.limits,
    )
    load_watch = LoadWatch(instances=picker.instances, engine=engine, balancer=balancer, clock=clock)
    return RouterServiceApp(
        servicer=servicer,
        admission=admission,
        commits=commits,
        regenerations=regenerations,
        load_watch=load_watch,
    )


def _cache_client(settings: RouterSettings, chassis: Chassis) -> CacheClient:
    return CacheClient(
        picker=Picker(chassis.registry.watch("mesh-cache"), chassis.clock),
        channels=chassis.channels,
        calls=_UNTRACED,
        lookup_timeout_s=settings.cache.lookup_timeout_s,
        commit_timeout_s=settings.cache.commit_timeout_s,
        compressor=chassis.registry.watch("mesh-compressor"),
        clock=chassis.clock,
    )


def _compressor_client(settings: RouterSettings, chassis: Chassis) -> CompressorClient:
    return CompressorClient(
        picker=Picker(chassis.registry.watch("mesh-compressor"), chassis.clock),
        channels=chassis.channels,
        calls=_UNTRACED,
        timeout_s=settings.compression.timeout_s,
        abstractive_timeout_s=settings.compression.abstractive_timeout_s,
    )


def _price(tier: TierSettings) -> Price:
    return Price(
        input_micro_usd=tier.input_price_micro_usd,
        cached_input_micro_usd=tier.cached_input_price_micro_usd,
        output_micro_usd=tier.output_price_micro_usd,
    )
