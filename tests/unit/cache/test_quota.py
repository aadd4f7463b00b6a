"""Who gives way in the first tier: a tenant over its quota to itself, and the largest when all is full."""

import asyncio
import random

import pytest

from meshkit.settings import SettingsError, load
from meshkit.testing.clock import FakeClock
from services.cache.lifetime import TierLifetime
from services.cache.memory_tier import MemoryTier
from services.cache.quota import Quotas, TenantMemory
from services.cache.request_key import partition, storage_key
from services.cache.settings import CacheSettings, QuotaSettings, TenantQuotaSettings
from tests.support.cache_stores import StoreSuite, an_entry

ANN, BOB = partition("ann"), partition("bob")
BUDGET_BYTES = 1_000_000


def memory(clock, settings=None, budget_bytes=BUDGET_BYTES) -> TenantMemory:
    lifetime = TierLifetime(ttl_s=300, jitter=0)
    source = random.Random(7)
    return TenantMemory(
        budget_bytes=budget_bytes,
        quota_of=Quotas(settings or QuotaSettings()).of,
        memory=lambda budget: MemoryTier(budget_bytes=budget, lifetime=lifetime, clock=clock, draw=source.randrange),
        draw=source.randrange,
    )


@pytest.fixture
def clock():
    return FakeClock()


class TestTenantMemory(StoreSuite):
    @pytest.fixture
    def wall(self, clock):
        return clock.wall

    @pytest.fixture
    def store(self, clock):
        return memory(clock, budget_bytes=10_000_000)


def key_of(tenant: str, number: int) -> bytes:
    return storage_key(tenant, number.to_bytes(32, "big"))


async def put(store, clock, tenant: str, numbers, *, size: int = 500, lives_s: float = 60) -> None:
    for number in numbers:
        await store.put(key_of(tenant, number), an_entry(bytes(size), wall=clock.wall(), lives_s=lives_s))


async def kept_count(store, tenant: str, numbers) -> int:
    return sum([await store.get(key_of(tenant, number)) is not None for number in numbers])


async def test_a_flood_of_one_tenant_pushes_out_nothing_that_another_holds(clock):
    store = memory(clock)
    await put(store, clock, "bob", range(30))
    await put(store, clock, "ann", range(2000))
    assert await kept_count(store, "bob", range(30)) == 30
    assert BUDGET_BYTES * 0.9 < (await store.size()).size_bytes <= BUDGET_BYTES


async def test_alone_a_tenant_may_fill_everything_and_others_get_their_part_when_they_come(clock):
    store = memory(clock)
    await put(store, clock, "ann", range(2000))
    assert store.held(ANN)[1] > BUDGET_BYTES * 0.9
    await put(store, clock, "bob", range(2000))
    for tenant in (ANN, BOB):
        assert store.held(tenant)[1] == pytest.approx(BUDGET_BYTES / 2, rel=0.1)


@pytest.mark.parametrize("limit", [{"max_bytes": 50_000}, {"max_entries": 8}])
async def test_a_tenant_over_its_quota_loses_its_own_and_others_lose_nothing(clock, limit):
    store = memory(clock, QuotaSettings(tenants={"ann": TenantQuotaSettings(**limit)}))
    await put(store, clock, "bob", range(30))
    await put(store, clock, "ann", range(100))
    entry_count, size_bytes = store.held(ANN)
    assert 0 < entry_count <= limit.get("max_entries", 100)
    assert size_bytes <= limit.get("max_bytes", BUDGET_BYTES)
    assert await kept_count(store, "bob", range(30)) == 30


async def test_a_quota_for_all_holds_for_each_and_a_tenants_own_comes_first(clock):
    store = memory(clock, QuotaSettings(max_entries=5, tenants={"ann": TenantQuotaSettings(max_entries=9)}))
    for tenant in ("ann", "bob"):
        await put(store, clock, tenant, range(50))
    assert (store.held(ANN)[0], store.held(BOB)[0]) == (9, 5)


async def test_what_expired_with_tenants_that_left_makes_room_for_the_others(clock):
    store = memory(clock)
    for number in range(40):
        await put(store, clock, f"gone {number}", range(2), lives_s=10)
    await clock.advance(11)
    await put(store, clock, "ann", range(1500))
    assert store.held(ANN)[1] > BUDGET_BYTES * 0.9
    assert (await store.size()).size_bytes <= BUDGET_BYTES


async def test_the_bytes_of_all_tenants_add_up_whatever_happens(clock):
    budget_bytes = 200_000
    store = memory(clock, budget_bytes=budget_bytes)
    source = random.Random(3)
    for step in range(3000):
        tenant, number = f"t{source.randrange(6)}", source.randrange(60)
        await put(store, clock, tenant, [number], size=source.randrange(2000), lives_s=source.uniform(0.1, 9))
        if step % 7 == 0:
            await store.delete(key_of(tenant, source.randrange(60)))
        if step % 50 == 0:
            await clock.advance(1)
            await store.get(key_of(tenant, source.randrange(60)))
        if step % 500 == 0:
            await store.sweep(partition(tenant), lambda key, entry: True, apply=True)
            assert store.held(partition(tenant))[0] == 0
    held = [store.held(partition(f"t{number}")) for number in range(6)]
    size = await store.size()
    assert (size.entry_count, size.size_bytes) == tuple(map(sum, zip(*held, strict=True)))
    assert size.size_bytes <= budget_bytes


async def test_the_bytes_add_up_after_a_sweep_that_was_stopped_half_way(clock):
    store = memory(clock)
    await put(store, clock, "ann", range(20))
    sweeping = asyncio.create_task(store.sweep(ANN, lambda key, entry: True, apply=True))
    await asyncio.sleep(0)
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    assert store.held(ANN)[0] < 20
    assert (await store.size()).size_bytes == store.held(ANN)[1]


def test_quotas_are_set_in_total_and_for_a_tenant_by_name(tmp_path):
    path = tmp_path / "cache.toml"
    path.write_text("[quota]\nmax_entries = 7\n[quota.tenants.ann]\nmax_bytes = 5\n")
    settings = load(CacheSettings, env_prefix="MESH_CACHE_", path=path, environ={}).value
    quotas = Quotas(settings.quota)
    assert (quotas.of(ANN).max_bytes, quotas.of(ANN).max_entries, quotas.of(BOB).max_entries) == (5, 7, 7)
    path.write_text("[quota.tenants.ann]\nmax_bytes = -5\n")
    with pytest.raises(SettingsError, match=r"quota\.tenants\.ann"):
        load(CacheSettings, env_prefix="MESH_CACHE_", path=path, environ={})
