"""The tiers in memory: the suite for all tiers, budget, order of eviction and time to live."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkit.testing.clock import FakeClock
from services.cache.memory_tier import ENTRY_OVERHEAD_BYTES, MemoryTier
from tests.support.cache_stores import KEY, FakeStore, StoreSuite, an_entry


def key(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest()


def memory_tier(clock: FakeClock, budget_bytes: int = 10_000_000) -> MemoryTier:
    return MemoryTier(budget_bytes=budget_bytes, ttl_s=300, clock=clock)


class TestFakeStore(StoreSuite):
    @pytest.fixture
    def wall(self):
        return FakeClock().wall

    @pytest.fixture
    def store(self):
        return FakeStore()


class TestMemoryTier(StoreSuite):
    @pytest.fixture
    def clock(self):
        return FakeClock()

    @pytest.fixture
    def wall(self, clock):
        return clock.wall

    @pytest.fixture
    def store(self, clock):
        return memory_tier(clock)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3000)), max_size=60))
@settings(max_examples=50, deadline=None)
async def test_the_byte_budget_holds_after_every_put(puts):
    clock = FakeClock()
    tier = memory_tier(clock, budget_bytes=8000)
    for number, length in puts:
        await tier.put(key(number), an_entry(b"x" * length, wall=clock.wall()))
        size = await tier.size()
        assert size.size_bytes <= 8000
        assert size.size_bytes >= size.entry_count * ENTRY_OVERHEAD_BYTES


async def test_the_least_recently_used_entry_goes_first():
    clock = FakeClock()
    tier = memory_tier(clock, budget_bytes=3 * (ENTRY_OVERHEAD_BYTES + 10))
    for number in range(3):
        await tier.put(key(number), an_entry(b"123456", wall=clock.wall()))
    await tier.get(key(0))
    await tier.put(key(3), an_entry(b"123456", wall=clock.wall()))
    assert await tier.get(key(1)) is None
    assert await tier.get(key(0)) is not None
    assert (await tier.size()).eviction_count == 1


async def test_an_entry_larger_than_the_budget_is_not_kept_and_evicts_nothing():
    clock = FakeClock()
    tier = memory_tier(clock, budget_bytes=2000)
    await tier.put(key(0), an_entry(b"small", wall=clock.wall()))
    await tier.put(key(1), an_entry(b"x" * 3000, wall=clock.wall()))
    assert await tier.get(key(0)) is not None
    assert await tier.get(key(1)) is None


@pytest.mark.parametrize(
    ("lives_s", "waits_s", "is_there"), [(600, 299, True), (600, 301, False), (10, 9, True), (10, 11, False)]
)
async def test_an_entry_lives_for_the_shorter_of_its_own_and_the_tiers_time(lives_s, waits_s, is_there):
    clock = FakeClock()
    tier = memory_tier(clock)
    await tier.put(KEY, an_entry(wall=clock.wall(), lives_s=lives_s))
    await clock.advance(waits_s)
    assert (await tier.get(KEY) is not None) == is_there
    assert (await tier.size()).entry_count == int(is_there)
