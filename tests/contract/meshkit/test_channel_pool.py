"""Channels of departed peers are let go; one with a call on it never is."""

import asyncio

import grpc

from mesh.cache.v1 import cache_service_pb2 as cache
from mesh.cache.v1 import cache_service_pb2_grpc as cache_grpc
from meshkit.channels import UNUSED_AFTER_S, ChannelPool
from meshkit.testing import FakeClock
from tests.support.probe_service import PATIENCE_S, Probe, asked_for, running_probe

ELSEWHERE = "127.0.0.1:1"


async def lookup(pool: ChannelPool, address: str) -> None:
    await cache_grpc.CacheServiceStub(pool.get(address)).Lookup(asked_for("x"), timeout=PATIENCE_S)


async def until_disconnected(channel: grpc.aio.Channel) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (state := channel.get_state()) is grpc.ChannelConnectivity.READY:
            await channel.wait_for_state_change(state)


async def test_the_channel_of_a_peer_that_is_gone_and_unused_is_closed_with_the_next_new_one():
    clock = FakeClock()
    pool = ChannelPool(clock=clock)
    async with running_probe(Probe()) as address:
        await lookup(pool, address)
        gone = pool.get(address)
    await until_disconnected(gone)
    await clock.advance(UNUSED_AFTER_S - 1)
    pool.get(ELSEWHERE)
    assert pool.get(address) is gone
    await clock.advance(UNUSED_AFTER_S)
    pool.get("127.0.0.1:2")
    assert pool.get(address) is not gone
    await pool.close()
    assert gone.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_a_channel_with_a_call_in_flight_is_kept_however_long_ago_it_was_asked_for():
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def follow(request):
        begun.set()
        await may_end.wait()
        yield cache.FollowResponse()

    clock = FakeClock()
    pool = ChannelPool(clock=clock)
    async with running_probe(Probe(follow=follow)) as address:
        call = cache_grpc.CacheServiceStub(pool.get(address)).Follow(cache.FollowRequest(), timeout=PATIENCE_S)
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        await clock.advance(10 * UNUSED_AFTER_S)
        pool.get(ELSEWHERE)
        may_end.set()
        assert [message async for message in call] == [cache.FollowResponse()]
        await pool.close()
