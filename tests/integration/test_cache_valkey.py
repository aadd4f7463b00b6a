"""The cache with a real Valkey that is killed, frozen, emptied and started again: requests never notice."""

import asyncio
import contextlib
import dataclasses
import math
import time

import grpc
import pytest
import valkey.asyncio as valkey_client

from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from meshkit.clock import SystemClock
from meshkit.settings import RegistrySettings, ServerSettings
from meshkit.testing.running import running_server
from meshkit.testing.valkey import ValkeyServer, valkey_server
from meshkit.valkey_binary import ValkeyUnavailable, valkey_binary
from services.cache.app import CacheService, build
from services.cache.lifetime import TierLifetime
from services.cache.settings import CacheSettings, L1Settings, L2Settings
from services.cache.tier import TierUnavailable
from services.cache.valkey_flights import ValkeyFlights
from services.cache.valkey_tier import KEY_PREFIX, ValkeyTier
from tests.support.cache_process import a_lookup, cache_process, commit, found_in
from tests.support.cache_stores import KEY, OTHER_KEY, StoreSuite, an_entry
from tests.support.flight_stores import TIMES, FlightStoreSuite
from tests.support.real import missing

PATIENCE_S = 10.0
L2 = L2Settings(first_rest_s=0.05, longest_rest_s=0.2, timeout_s=0.1)
"""Longer than in production: a busy test machine must not look like a slow server."""


@pytest.fixture(autouse=True)
def _real_server():
    try:
        valkey_binary()
    except ValkeyUnavailable as problem:
        missing(str(problem))


@contextlib.asynccontextmanager
async def connected_tier(server: ValkeyServer, **changes):
    tier = ValkeyTier(dataclasses.replace(L2, url=server.url, **changes), TierLifetime(ttl_s=math.inf), SystemClock())
    watching = asyncio.create_task(tier.watch())
    try:
        await until(lambda: tier.is_available)
        yield tier
    finally:
        watching.cancel()
        await tier.close()


@contextlib.asynccontextmanager
async def connected_flights(server: ValkeyServer):
    flights = ValkeyFlights(dataclasses.replace(L2, url=server.url), TIMES, SystemClock())
    watching = asyncio.create_task(flights.watch())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(TierUnavailable):
                    await flights.read(b"any", b"", 0)
                    break
                await asyncio.sleep(0.01)
        yield flights
    finally:
        watching.cancel()
        await flights.close()


async def until(holds) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


class TestValkeyTier(StoreSuite):
    @pytest.fixture
    def wall(self):
        return time.time

    @pytest.fixture
    async def store(self):
        async with valkey_server() as server, connected_tier(server) as tier:
            yield tier


class TestValkeyFlights(FlightStoreSuite):
    @pytest.fixture
    async def store(self):
        async with valkey_server() as server, connected_flights(server) as flights:
            yield flights

    @pytest.fixture
    def pass_time(self):
        return asyncio.sleep  # the server's own clock decides


async def test_the_server_forgets_an_entry_when_it_expires():
    async with valkey_server() as server, connected_tier(server) as tier:
        await tier.put(KEY, an_entry(wall=time.time(), lives_s=30))
        async with valkey_client.Valkey.from_url(server.url) as client:
            assert 28_000 < await client.pttl(KEY_PREFIX + KEY) <= 30_000


async def test_a_corrupt_entry_is_a_miss_and_is_removed():
    async with valkey_server() as server, connected_tier(server) as tier:
        await tier.put(KEY, an_entry(wall=time.time()))
        async with valkey_client.Valkey.from_url(server.url) as client:
            await client.setrange(KEY_PREFIX + KEY, 30, b"\x00\x01\x02")
            with pytest.raises(Exception, match="checksum"):
                await tier.get(KEY)
            assert await client.exists(KEY_PREFIX + KEY) == 0


async def test_a_frozen_server_costs_a_few_time_outs_and_then_nothing_until_it_answers_again():
    async with valkey_server() as server, connected_tier(server) as tier:
        await tier.put(KEY, an_entry(wall=time.time()))
        server.pause()
        for _ in range(L2.failure_limit):
            with pytest.raises(TierUnavailable):
                await tier.get(KEY)
        started = time.monotonic()
        for _ in range(1000):
            with pytest.raises(TierUnavailable):
                await tier.get(KEY)
        assert time.monotonic() - started < L2.timeout_s * 10
        server.resume()
        await until(lambda: tier.is_available)
        assert await tier.get(KEY) is not None


async def test_cancelled_look_ups_leave_no_reply_for_the_next_one():
    async with valkey_server() as server, connected_tier(server) as tier:
        await tier.put(KEY, an_entry(b"one", wall=time.time()))
        await tier.put(OTHER_KEY, an_entry(b"other", wall=time.time()))
        for yields in range(30):
            doomed = asyncio.create_task(tier.get(KEY))
            for _ in range(yields % 6):
                await asyncio.sleep(0)
            doomed.cancel()
            await asyncio.gather(doomed, return_exceptions=True)
            assert (await tier.get(OTHER_KEY)).payload == b"other"


def cache_settings(url: str) -> CacheSettings:
    # The first tier keeps nothing for long, so that hits show the second.
    return CacheSettings(
        server=ServerSettings(port=0),
        registry=RegistrySettings(kind="none"),
        l1=L1Settings(ttl_s=0.001),
        l2=dataclasses.replace(L2, url=url),
    )


@contextlib.asynccontextmanager
async def cache_stub(settings: CacheSettings):
    async with running_server(settings, build, CacheService) as address, grpc.aio.insecure_channel(address) as channel:
        yield CacheServiceStub(channel)


async def until_kept_in_second_tier(stub, text: str) -> None:
    """Commits until the second tier, which may still be connecting, has the answer."""
    async with asyncio.timeout(PATIENCE_S):
        while await found_in(stub, text) != pb.CACHE_TIER_L2:
            await commit(stub, text)
            await asyncio.sleep(0.02)


async def test_two_instances_share_the_second_tier():
    async with valkey_server() as server:
        settings = cache_settings(server.url)
        async with cache_stub(settings) as one, cache_stub(settings) as other:
            await until_kept_in_second_tier(one, "shared")
            await until_kept_in_second_tier(other, "else")
            assert await found_in(other, "shared") == pb.CACHE_TIER_L2


async def test_requests_are_served_while_the_server_dies_and_it_is_used_again_when_back():
    async with valkey_server() as server, cache_stub(cache_settings(server.url)) as stub:
        await until_kept_in_second_tier(stub, "a")
        server.kill()
        for _ in range(20):
            assert await found_in(stub, "a") in (0, pb.CACHE_TIER_L1)
            await commit(stub, "a")
        await server.start()
        await until_kept_in_second_tier(stub, "a")


async def test_requests_are_served_while_the_server_is_frozen():
    async with valkey_server() as server, cache_stub(cache_settings(server.url)) as stub:
        await until_kept_in_second_tier(stub, "a")
        server.pause()
        slowest_s = 0.0
        for _ in range(20):
            started = time.monotonic()
            await commit(stub, "a")
            slowest_s = max(slowest_s, time.monotonic() - started)
        # One time-out and the call itself, on a busy machine.
        assert slowest_s < L2.timeout_s + 0.4
        server.resume()
        await until_kept_in_second_tier(stub, "a")


async def test_a_flushed_server_is_a_miss_and_is_filled_again():
    async with valkey_server() as server, cache_stub(cache_settings(server.url)) as stub:
        await until_kept_in_second_tier(stub, "a")
        async with valkey_client.Valkey.from_url(server.url) as client:
            await client.flushall()
        await asyncio.sleep(0.01)
        assert await found_in(stub, "a") == 0
        await until_kept_in_second_tier(stub, "a")


async def test_a_service_starts_without_its_server_and_says_so_in_its_statistics():
    async with cache_stub(cache_settings("valkey://127.0.0.1:1/0")) as stub:
        await commit(stub, "a")
        stats = await stub.Stats(pb.StatsRequest())
        second = stats.tiers[1]
        assert (second.tier, second.entry_count) == (pb.CACHE_TIER_L2, -1)
        assert second.error_count > 0


def as_process(url: str) -> dict[str, object]:
    return {"L1__TTL_S": 0.001, "L2__URL": url, "L2__TIMEOUT_S": L2.timeout_s}


async def test_what_a_killed_cache_had_stored_is_whole_for_the_next_one():
    async with valkey_server() as server:
        async with cache_process(**as_process(server.url)) as cache:
            stub = cache.stub
            await until_kept_in_second_tier(stub, "before the kill")
            for number in range(50):
                await commit(stub, f"{number}")
        async with cache_process(**as_process(server.url)) as cache:
            stub = cache.stub
            await until_kept_in_second_tier(stub, "after the kill")
            assert await found_in(stub, "before the kill") == pb.CACHE_TIER_L2
            for number in range(50):
                reply = await stub.Lookup(a_lookup(f"{number}"))
                assert reply.HasField("miss") or reply.hit.answer.events[0].delta.text == f"{number}"
            assert all(tier.unreadable_count == 0 for tier in (await stub.Stats(pb.StatsRequest())).tiers)
