"""What a far tier may do to its entries and to the cache: rubbish is a miss, slowness ends on time, return is calm."""

import asyncio
import contextlib
import dataclasses
import hashlib
import math
import random
import sqlite3
import time

import pytest
import valkey.asyncio as valkey_client

from meshkit.clock import SystemClock
from meshkit.testing.fault_proxy import FaultProxy
from meshkit.testing.valkey import valkey_server
from meshkit.valkey_binary import ValkeyUnavailable, valkey_binary
from services.cache.disk.folder import FILE_NAME
from services.cache.disk.tier import DiskTier
from services.cache.entry import MAGIC, VERSION, encode
from services.cache.lifetime import TierLifetime
from services.cache.settings import L2Settings, L3Settings
from services.cache.tier import TierUnavailable
from services.cache.tiered import Absent, Level, TieredStore, TierName
from services.cache.valkey_tier import KEY_PREFIX, ValkeyTier
from tests.support.cache_stores import KEY, an_entry
from tests.support.real import missing

PATIENCE_S = 20.0
MUTATIONS = 5_000
"""At each of the two tiers."""
HERD = 300
L2 = L2Settings(first_rest_s=0.05, longest_rest_s=0.2, timeout_s=1.0)
L3 = L3Settings(first_rest_s=0.05, longest_rest_s=0.2, timeout_s=1.0, min_free_bytes=0)
"""Time-outs are longer than in production: a busy test machine must not look like a slow tier."""


@pytest.fixture(autouse=True)
def _real_server():
    try:
        valkey_binary()
    except ValkeyUnavailable as problem:
        missing(str(problem))


@contextlib.asynccontextmanager
async def watched(tier):
    watching = asyncio.create_task(tier.watch())
    try:
        await until(lambda: tier.is_available)
        yield tier
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await tier.close()


def valkey_tier(url: str, **changes) -> ValkeyTier:
    return ValkeyTier(dataclasses.replace(L2, url=url, **changes), TierLifetime(ttl_s=math.inf), SystemClock())


async def until(holds) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


def keys() -> list[bytes]:
    return [hashlib.sha256(b"%d" % number).digest() for number in range(MUTATIONS)]


def flipped(data: bytes, chance: random.Random) -> bytes:
    position = chance.randrange(len(data))
    return data[:position] + bytes([data[position] ^ chance.randint(1, 255)]) + data[position + 1 :]


def truncated(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def lengthened(data: bytes, chance: random.Random) -> bytes:
    return data + chance.randbytes(chance.randint(1, 50))


def of_another_version(data: bytes, chance: random.Random) -> bytes:
    version = chance.choice([number for number in range(256) if number != VERSION])
    return MAGIC + bytes([version]) + data[len(MAGIC) + 1 :]


def of_another_key(data: bytes, chance: random.Random) -> bytes:
    return encode(chance.randbytes(32), an_entry(chance.randbytes(200), wall=time.time()))


def halves_of_two(data: bytes, chance: random.Random) -> bytes:
    other = of_another_key(data, chance)
    return data[: len(data) // 2] + other[len(other) // 2 :]


KINDS = (flipped, truncated, lengthened, of_another_version, of_another_key, halves_of_two)


def mutations() -> dict[bytes, bytes]:
    """By key, bytes that are not its entry; each kind as often as the others."""
    chance = random.Random(7)
    found = {}
    for number, key in enumerate(keys()):
        data = encode(key, an_entry(chance.randbytes(200), wall=time.time(), lives_s=600))
        found[key] = KINDS[number % len(KINDS)](data, chance)
    return found


async def look_all_up(level: Level) -> None:
    """Every one is a miss, counted once, and gone."""
    store = TieredStore([level], SystemClock())
    for key in keys():
        assert await store.lookup(key) == Absent(reason="unreadable")
    for key in keys()[::20]:
        assert await store.lookup(key) == Absent(reason="absent")
    counters = dict(store.counters())[level.name]
    assert (counters.unreadable_count, counters.hit_count, counters.error_count) == (MUTATIONS, 0, 0)


async def test_what_is_not_an_entry_on_the_server_is_a_miss_and_counted():
    async with valkey_server() as server, watched(valkey_tier(server.url)) as tier:
        async with valkey_client.Valkey.from_url(server.url) as client, client.pipeline(transaction=False) as pipeline:
            for key, data in mutations().items():
                pipeline.set(KEY_PREFIX + key, data)
            await pipeline.execute()
        await look_all_up(Level(name=TierName.L2, store=tier))


async def test_what_is_not_an_entry_on_the_disk_is_a_miss_and_counted(tmp_path):
    async with watched(DiskTier(tmp_path / "l3", L3, SystemClock())):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "l3" / FILE_NAME)) as connection:
        for id, (key, data) in enumerate(mutations().items()):
            connection.execute("INSERT INTO entries(id, key, expires_at) VALUES(?, ?, 9e9)", (id, key))
            connection.execute("INSERT INTO bodies(id, data) VALUES(?, ?)", (id, data))
        connection.commit()
    async with watched(DiskTier(tmp_path / "l3", L3, SystemClock())) as tier:
        await look_all_up(Level(name=TierName.L3, store=tier))


async def test_a_slow_server_is_passed_over_on_time_and_used_again_when_it_is_quick():
    timeout_s = 0.1
    async with (
        valkey_server() as server,
        FaultProxy.to(f"127.0.0.1:{server.port}") as proxy,
        watched(valkey_tier(f"valkey://{proxy.address}/0", timeout_s=timeout_s)) as tier,
    ):
        await tier.put(KEY, an_entry(wall=time.time()))
        proxy.slow(timeout_s * 3)
        store = TieredStore([Level(name=TierName.L2, store=tier)], SystemClock())
        started = time.monotonic()
        for _ in range(L2.failure_limit):
            assert isinstance(await store.lookup(KEY), Absent)
        # The time-outs, and what a busy machine adds.
        assert time.monotonic() - started < timeout_s * L2.failure_limit + 1.0
        proxy.slow(0.0)
        await until(lambda: tier.is_available)
        async with asyncio.timeout(PATIENCE_S):
            while isinstance(await store.lookup(KEY), Absent):
                await asyncio.sleep(0.01)


async def test_a_server_that_returns_meets_one_probe_and_then_no_more_calls_than_connections():
    limit = 8
    async with valkey_server() as server, watched(valkey_tier(server.url, max_connections=limit)) as tier:
        await tier.put(KEY, an_entry(wall=time.time()))
        server.pause()
        await asyncio.gather(*(tier.get(KEY) for _ in range(limit)), return_exceptions=True)
        assert not tier.is_available

        async def ask_until_answered() -> None:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    with contextlib.suppress(TierUnavailable):
                        await tier.get(KEY)
                        return
                    await asyncio.sleep(0.01)

        herd = [asyncio.create_task(ask_until_answered()) for _ in range(HERD)]
        await asyncio.sleep(0)
        server.resume()
        await asyncio.gather(*herd)
        async with valkey_client.Valkey.from_url(server.url) as client:
            clients, calls = await client.info("clients"), await client.info("commandstats")
            # The tier's own, its probe's, and the one that asks.
            assert clients["connected_clients"] <= limit + 2
            # One for each that was answered, and those that the freeze cut off.
            assert calls["cmdstat_get"]["calls"] <= HERD + 2 * limit
