"""Router, cache and inference (echo engine) as real servers in this process, found through a registry in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc

from mesh.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from mesh.router.v1 import router_service_pb2_grpc
from meshkit.settings import ServerSettings
from meshkit.testing import FakeRegistry, running_server
from services.cache.app import CacheService
from services.cache.app import build as build_cache
from services.cache.settings import CacheSettings, EntrySettings, L2Settings, PrefixSettings
from services.inference.app import InferenceService
from services.inference.app import build as build_inference
from services.inference.settings import EngineSettings, InferenceSettings, ModelSettings
from services.router.app import RouterServiceApp
from services.router.app import build as build_router
from services.router.settings import LimitSettings, RouterSettings

ANY_PORT = ServerSettings(port=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallMesh:
    """Where it is, and a stub of its router."""

    router: str
    cache: str
    stub: router_service_pb2_grpc.RouterServiceAsyncStub
    registry: FakeRegistry

    async def engine_is_idle(self) -> None:
        """Return when the engine says that it has no sequence left."""
        instance = self.registry.watch("mesh-inference").current[0]
        async with grpc.aio.insecure_channel(instance.address) as channel:
            stub = inference_service_pb2_grpc.InferenceServiceStub(channel)
            async for reply in stub.WatchLoad(inference_service_pb2.WatchLoadRequest()):
                if reply.load.running_count + reply.load.waiting_count == 0:
                    return


@contextlib.asynccontextmanager
async def small_mesh(
    *, tokens_per_s: float = 0.0, stale_s: float = 0.0, engine_count: int = 1, gives_hints: bool = True
) -> AsyncIterator[SmallMesh]:
    """A mesh for a block. `tokens_per_s`: pace of the echo engine, whose tokens are bytes; 0: at once.

    `gives_hints`: whether the cache says who holds the beginning of a prompt.
    """
    registry = FakeRegistry()
    cache = CacheSettings(
        server=ANY_PORT,
        l2=L2Settings(url=""),
        entry=EntrySettings(stale_s=stale_s),
        prefix=PrefixSettings(enabled=gives_hints),
    )
    inference = InferenceSettings(
        server=ANY_PORT,
        model=ModelSettings(name="tiny"),
        engine=EngineSettings(kind="echo", echo_tokens_per_s=tokens_per_s),
    )
    router = RouterSettings(server=ANY_PORT, limits=LimitSettings(max_prompt_bytes=100_000))
    async with contextlib.AsyncExitStack() as running:
        own = [registry.as_another_process() for _ in range(engine_count + 2)]
        caches = running_server(cache, build_cache, CacheService, registry=own.pop())
        cache_address = await running.enter_async_context(caches)
        routers = running_server(router, build_router, RouterServiceApp, registry=own.pop())
        for one in own:
            engine = running_server(inference, build_inference, InferenceService, registry=one)
            await running.enter_async_context(engine)
        address = await running.enter_async_context(routers)
        channel = await running.enter_async_context(grpc.aio.insecure_channel(address))
        stub = router_service_pb2_grpc.RouterServiceStub(channel)
        yield SmallMesh(router=address, cache=cache_address, stub=stub, registry=registry)
