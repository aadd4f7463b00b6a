"""The smallest real service: one unary and one streaming method of the cache's contract, behaving as a test says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

import grpc

from mesh.cache.v1 import cache_service_pb2 as cache
from mesh.cache.v1 import cache_service_pb2_grpc as cache_grpc
from meshkit.chassis import Chassis
from meshkit.service import Service
from meshkit.settings import ServerSettings, ServiceSettings
from meshkit.testing import FakeRegistry, running_server

LOOKUP = "/mesh.cache.v1.CacheService/Lookup"
FOLLOW = "/mesh.cache.v1.CacheService/Follow"
PATIENCE_S = 5.0

Lookup = Callable[[cache.LookupRequest], Awaitable[cache.LookupResponse]]
Follow = Callable[[cache.FollowRequest], AsyncGenerator[cache.FollowResponse, None]]


async def echo(request: cache.LookupRequest) -> cache.LookupResponse:
    return cache.LookupResponse(digest=request.key.model.encode())


async def three(request: cache.FollowRequest) -> AsyncGenerator[cache.FollowResponse, None]:
    for _ in range(3):
        yield cache.FollowResponse()


class ProbeServicer(cache_grpc.CacheServiceServicer):
    def __init__(self, lookup: Lookup, follow: Follow) -> None:
        self._lookup = lookup
        self._follow = follow

    async def Lookup(self, request, context):
        return await self._lookup(request)

    async def Follow(self, request, context):
        async with contextlib.aclosing(self._follow(request)) as responses:
            async for response in responses:
                yield response


class Probe(Service):
    """`lookup` and `follow` are what the methods do; `on_start` runs before the service is ready."""

    consul_name = "mesh-cache"
    grpc_name = "mesh.cache.v1.CacheService"

    def __init__(
        self, lookup: Lookup = echo, follow: Follow = three, on_start: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._servicer = ProbeServicer(lookup, follow)  # type: ignore[abstract]  # the rest stays unimplemented
        self._on_start = on_start

    def add_to(self, server: grpc.aio.Server) -> None:
        cache_grpc.add_CacheServiceServicer_to_server(self._servicer, server)

    async def start(self) -> Mapping[str, str]:
        if self._on_start is not None:
            await self._on_start()
        return {"colour": "green"}


def loopback() -> ServiceSettings:
    return ServiceSettings(server=ServerSettings(port=0))


def asked_for(text: str) -> cache.LookupRequest:
    return cache.LookupRequest(key=cache.CacheKey(model=text))


@contextlib.asynccontextmanager
async def running_probe(
    probe: Probe, settings: ServiceSettings | None = None, registry: FakeRegistry | None = None
) -> AsyncIterator[str]:
    """The probe on a free port; yields its address."""

    def build(settings: ServiceSettings, chassis: Chassis) -> Service:
        return probe

    async with running_server(settings or loopback(), build, Probe, registry=registry) as address:
        yield address


@contextlib.asynccontextmanager
async def probe_stub(
    probe: Probe | None = None, settings: ServiceSettings | None = None
) -> AsyncIterator[cache_grpc.CacheServiceAsyncStub]:
    """A stub that talks to a running probe."""
    async with (
        running_probe(probe or Probe(), settings) as address,
        grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel,
    ):
        yield cache_grpc.CacheServiceStub(channel)
