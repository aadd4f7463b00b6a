"""The second tier on a real cluster of three servers: what one of them suffers costs its own keys and no others."""

import asyncio
import contextlib
import dataclasses
import hashlib
import math
import time

import pytest
from valkey.crc import key_slot

from meshkit.clock import SystemClock
from meshkit.valkey_binary import ValkeyUnavailable, valkey_binary
from services.cache.lifetime import TierLifetime
from services.cache.settings import L2Settings
from services.cache.tier import TierUnavailable
from services.cache.valkey_tier import KEY_PREFIX, ValkeyTier
from tests.support.cache_stores import KEY, StoreSuite, an_entry
from tests.support.real import missing
from tests.support.valkey_cluster import SLOT_COUNT, give_slots, valkey_cluster

PATIENCE_S = 20.0
L2 = L2Settings(first_rest_s=0.05, longest_rest_s=0.2, timeout_s=0.1)
"""Longer than in production: a busy test machine must not look like a slow server."""
KEYS = [hashlib.sha256(b"%d" % number).digest() for number in range(60)]


@pytest.fixture(scope="module")
def servers():
    """Made once, since forming a cluster takes seconds."""
    try:
        valkey_binary()
    except ValkeyUnavailable as problem:
        missing(str(problem))
    stack = contextlib.AsyncExitStack()
    with asyncio.Runner() as runner:
        yield runner.run(stack.enter_async_context(valkey_cluster()))
        runner.run(stack.aclose())


@pytest.fixture
async def store(servers):
    for server in servers:
        async with server.client as client:
            await client.flushall()
    async with connected(servers) as tier:
        yield tier


@contextlib.asynccontextmanager
async def connected(servers, **changes):
    settings = {"url": f"valkey://{servers[0].address}", "cluster": True, **changes}
    tier = ValkeyTier(dataclasses.replace(L2, **settings), TierLifetime(ttl_s=math.inf), SystemClock())
    watching = asyncio.create_task(tier.watch())
    try:
        await until(lambda: tier.is_available)
        yield tier
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await tier.close()


async def until(holds) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


class TestValkeyTierOnACluster(StoreSuite):
    @pytest.fixture
    def wall(self):
        return time.time


async def kept(tier) -> set[bytes]:
    """The keys that are answered with an entry."""
    found = set()
    for key in KEYS:
        with contextlib.suppress(TierUnavailable):
            if await tier.get(key) is not None:
                found.add(key)
    return found


async def fill(tier) -> None:
    for key in KEYS:
        await tier.put(key, an_entry(wall=time.time()))


async def test_entries_lie_on_all_servers(store, servers):
    await fill(store)
    for server in servers:
        async with server.client as client:
            assert 5 < await client.dbsize() < len(KEYS)
    assert (await store.size()).entry_count == len(KEYS)


async def test_a_frozen_server_costs_its_own_keys_a_few_time_outs_and_others_nothing(store, servers):
    await fill(store)
    async with servers[1].client as client:
        of_frozen = {name.removeprefix(KEY_PREFIX) for name in await client.keys()}
    servers[1].pause()
    try:
        assert await kept(store) == set(KEYS) - of_frozen
        started = time.monotonic()
        for _ in range(10):
            assert await kept(store) == set(KEYS) - of_frozen
        assert time.monotonic() - started < L2.timeout_s * 20
    finally:
        servers[1].resume()
    await until(lambda: store.is_available)
    assert await kept(store) == set(KEYS)


async def test_time_outs_use_up_no_connections(store, servers):
    await fill(store)
    for _ in range(3):
        servers[1].pause()
        await asyncio.gather(*(store.get(key) for key in KEYS), return_exceptions=True)
        servers[1].resume()
        await until(lambda: store.is_available)
    assert await kept(store) == set(KEYS)


async def test_a_slot_that_moved_is_found_again(store, servers):
    slot = key_slot(KEY_PREFIX + KEY)
    owner = servers[slot // -(-SLOT_COUNT // len(servers))]
    other = next(server for server in servers if server is not owner)
    try:
        await give_slots(servers, slot, other)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(TierUnavailable):
                    await store.put(KEY, an_entry(wall=time.time()))
                    break
                await asyncio.sleep(0.02)
        async with other.client as client:
            assert await client.exists(KEY_PREFIX + KEY)
    finally:
        await give_slots(servers, slot, owner)


async def test_another_node_is_asked_for_the_cluster_while_the_first_is_gone(servers):
    gone = "127.0.0.1:1"
    async with connected(servers, url=f"valkey://{gone}", more_nodes=(servers[2].address,)) as tier:
        await tier.put(KEY, an_entry(wall=time.time()))
        assert await tier.get(KEY) is not None
