"""The tiers in memory: the suite for all tiers, budget, order of eviction and time to live."""

import asyncio
import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkit.testing.clock import FakeClock
from services.cache.lifetime import TierLifetime
from services.cache.memory_tier import ENTRY_BYTES, MemoryTier
from tests.support.cache_stores import KEY, FakeStore, StoreSuite, an_entry


def key(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest()


def memory_tier(clock: FakeClock, budget_bytes: int = 10_000_000) -> MemoryTier:
    return MemoryTier(budget_bytes=budget_bytes, lifetime=TierLifetime(ttl_s=300), clock=clock)


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


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 30_000)), max_size=60))
@settings(max_examples=50, deadline=None)
async def test_the_byte_budget_holds_after_every_put(puts):
    clock = FakeClock()
    tier = memory_tier(clock, budget_bytes=100_000)
    for number, length in puts:
        await tier.put(key(number), an_entry(b"x" * length, wall=clock.wall()))
        size = await tier.size()
        assert size.size_bytes <= 100_000
        assert size.size_bytes >= size.entry_count * ENTRY_BYTES


SEGMENT = bytes(16_384)
"""A payload in whose steps the tier's memory grows."""


async def room_for(*payloads: bytes) -> int:
    """A budget for such entries, and no more."""
    clock = FakeClock()
    tier = memory_tier(clock)
    for number, payload in enumerate(payloads):
        await tier.put(key(number), an_entry(payload, wall=clock.wall()))
    return (await tier.size()).size_bytes


async def kept(tier: MemoryTier) -> set[bytes]:
    seen = set()
    await tier.sweep(b"", lambda key, _: bool(seen.add(key)), apply=False)
    return seen


async def test_the_entry_with_the_fewest_hits_goes_first():
    clock = FakeClock()
    tier = memory_tier(clock, budget_bytes=await room_for(*[SEGMENT] * 3))
    for number in range(3):
        await tier.put(key(number), an_entry(SEGMENT, wall=clock.wall()))
    for number in (0, 1, 0, 2, 2):
        await tier.get(key(number))
    await tier.put(key(3), an_entry(SEGMENT, wall=clock.wall()))
    assert await kept(tier) == {key(0), key(2), key(3)}
    assert (await tier.size()).eviction_count == 1


async def test_of_two_entries_with_the_same_hits_the_larger_goes_first():
    clock = FakeClock()
    tier = memory_tier(clock, budget_bytes=await room_for(SEGMENT * 2, SEGMENT))
    for number, payload in enumerate((SEGMENT * 2, SEGMENT, SEGMENT)):
        await tier.put(key(number), an_entry(payload, wall=clock.wall()))
    assert await kept(tier) == {key(1), key(2)}


async def test_former_fame_fades():
    clock = FakeClock()
    tier = memory_tier(clock, budget_bytes=await room_for(*[b"answer"] * 20))
    await tier.put(b"famous", an_entry(wall=clock.wall()))
    for _ in range(5):
        await tier.get(b"famous")
    for number in range(5000):
        await tier.put(b"%d" % number, an_entry(wall=clock.wall()))
    assert await tier.get(b"famous") is None


async def test_an_expired_entry_goes_before_any_other():
    clock = FakeClock()
    tier = memory_tier(clock, budget_bytes=await room_for(*[SEGMENT] * 3))
    await tier.put(key(0), an_entry(SEGMENT, wall=clock.wall(), lives_s=10))
    await tier.put(key(1), an_entry(SEGMENT, wall=clock.wall()))
    await tier.put(key(2), an_entry(SEGMENT, wall=clock.wall()))
    for _ in range(9):
        await tier.get(key(0))
    await clock.advance(11)
    await tier.put(key(3), an_entry(SEGMENT, wall=clock.wall()))
    assert await kept(tier) == {key(1), key(2), key(3)}
    assert (await tier.size()).eviction_count == 0


async def test_a_sweep_of_many_entries_lets_others_run_and_sees_each_that_stays():
    clock = FakeClock()
    tier = memory_tier(clock)
    for number in range(2000):
        await tier.put(b"%d" % number, an_entry(wall=clock.wall()))
    seen = []
    sweeping = asyncio.create_task(tier.sweep(b"", lambda key, _: bool(seen.append(key)), apply=False))
    for number in range(0, 2000, 400):
        await asyncio.sleep(0)
        assert not sweeping.done()
        await tier.delete(b"%d" % number)
    await sweeping
    assert {b"%d" % number for number in range(2000) if number % 400} <= set(seen)


async def test_what_is_kept_stays_whole_and_memory_follows_while_sizes_change_under_a_full_budget():
    clock, chance = FakeClock(), random.Random(3)
    tier = memory_tier(clock, budget_bytes=500_000)
    payloads = {}
    for number in range(2000):
        payload = chance.randbytes(chance.randint(0, 20_000 if number < 1000 else 200))
        payloads[b"%d" % number] = payload
        await tier.put(b"%d" % number, an_entry(payload, wall=clock.wall()))
        asked = b"%d" % chance.randint(0, number)
        found = await tier.get(asked)
        assert found is None or found.payload == payloads[asked]
    for held in await kept(tier):
        assert (await tier.get(held)).payload == payloads[held]
    # What large entries left is used for small ones.
    assert (await tier.size()).entry_count > 400


async def test_an_entry_larger_than_the_budget_is_not_kept_and_evicts_nothing():
    clock = FakeClock()
    tier = memory_tier(clock, budget_bytes=20_000)
    await tier.put(key(0), an_entry(b"small", wall=clock.wall()))
    await tier.put(key(1), an_entry(b"x" * 30_000, wall=clock.wall()))
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


async def test_the_tiers_own_time_to_live_is_jittered():
    clock = FakeClock()
    tier = MemoryTier(
        budget_bytes=10_000_000, lifetime=TierLifetime(ttl_s=300, jitter=0.1, random=lambda: 0.5), clock=clock
    )
    await tier.put(KEY, an_entry(wall=clock.wall(), lives_s=600))
    await clock.advance(284)
    assert await tier.get(KEY) is not None
    await clock.advance(2)
    assert await tier.get(KEY) is None
