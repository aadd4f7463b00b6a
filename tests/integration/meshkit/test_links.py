"""A link that is cut or goes silent in the middle of a call without a deadline is noticed in seconds."""

import asyncio

import grpc
import pytest

from mesh.cache.v1 import cache_service_pb2 as cache
from mesh.cache.v1 import cache_service_pb2_grpc as cache_grpc
from meshkit.calls import Calls
from meshkit.channels import ChannelPool
from meshkit.errors import BackendDown
from meshkit.testing import FaultProxy
from tests.support.probe_service import Probe, asked_for, running_probe

NOTICED_S = {"cut": 1.0, "freeze": 6.0}
"""A silent peer: 2 s until the ping, 2 s for its answer, and what a busy machine adds."""


@pytest.mark.parametrize("fault", NOTICED_S)
@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_broken_link_is_noticed(fault, kind):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def lookup(request):
        if request.key.model == "wait":
            begun.set()
            await asyncio.Event().wait()
        return cache.LookupResponse()

    async def follow(request):
        try:
            begun.set()
            await asyncio.Event().wait()
            yield cache.FollowResponse()
        finally:
            ended.set()

    async def call(stub):
        if kind == "unary":
            await Calls().unary(stub.Lookup, asked_for("wait"), timeout_s=60)
        async with Calls().stream(stub.Follow, cache.FollowRequest()) as messages:
            await anext(messages)

    pool = ChannelPool()
    async with running_probe(Probe(lookup=lookup, follow=follow)) as address, FaultProxy.to(address) as proxy:
        stub = cache_grpc.CacheServiceStub(pool.get(proxy.address))
        calling = asyncio.create_task(call(stub))
        await asyncio.wait_for(begun.wait(), 5)
        getattr(proxy, fault)()
        with pytest.raises(BackendDown):
            await asyncio.wait_for(calling, NOTICED_S[fault])
        proxy.thaw()
        if kind == "stream":
            await asyncio.wait_for(ended.wait(), NOTICED_S[fault])
    await pool.close()


async def test_a_channel_comes_back_when_its_peer_does():
    pool = ChannelPool()
    async with running_probe(Probe()) as address, FaultProxy.to(address) as proxy:
        stub = cache_grpc.CacheServiceStub(pool.get(proxy.address))
        await Calls().unary(stub.Lookup, asked_for("x"), timeout_s=5)
        proxy.refuse()
        proxy.cut()
        with pytest.raises(BackendDown):
            await Calls().unary(stub.Lookup, asked_for("x"), timeout_s=5)
        proxy.refuse(False)
        async with asyncio.timeout(3):
            while True:
                try:
                    await Calls().unary(stub.Lookup, asked_for("x"), timeout_s=1)
                    break
                except (BackendDown, grpc.aio.AioRpcError):
                    await asyncio.sleep(0.05)
    await pool.close()
