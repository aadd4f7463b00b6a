"""The order of look-up: faster tiers first, broken ones passed over, copies for the faster, writes off the path."""

import asyncio

import pytest

from meshkit.testing.clock import FakeClock
from services.cache.lifetime import Lifetimes
from services.cache.memory_tier import MemoryTier
from services.cache.tiered import Absent, Found, Level, TieredStore, TierName
from services.cache.write_behind import WriteBehind
from tests.support.cache_stores import KEY, OTHER_KEY, FakeStore, an_entry


class Tiers:
    """L1 in memory and a fake L2, directly written."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.first = MemoryTier(budget_bytes=1_000_000, ttl_s=300, clock=self.clock)
        self.second = FakeStore()
        levels = [Level(name=TierName.L1, store=self.first), Level(name=TierName.L2, store=self.second)]
        self.store = TieredStore(levels, self.clock)

    def counters(self, name: TierName):
        return dict(self.store.counters())[name]


@pytest.fixture
def tiers():
    return Tiers()


async def test_a_committed_entry_is_found_in_the_first_tier_with_its_age(tiers):
    entry = an_entry(wall=tiers.clock.wall())
    await tiers.store.commit(KEY, entry)
    await tiers.clock.advance(7)
    assert await tiers.store.lookup(KEY) == Found(entry=entry, tier=TierName.L1, age_s=7.0)


async def test_what_the_second_tier_has_is_copied_into_the_first(tiers):
    await tiers.second.put(KEY, an_entry(wall=tiers.clock.wall()))
    assert (await tiers.store.lookup(KEY)).tier is TierName.L2
    tiers.second.is_down = True
    assert (await tiers.store.lookup(KEY)).tier is TierName.L1


async def test_a_tier_that_is_down_is_passed_over_and_counted(tiers):
    tiers.second.is_down = True
    await tiers.store.commit(KEY, an_entry(wall=tiers.clock.wall()))
    assert isinstance(await tiers.store.lookup(KEY), Found)
    assert await tiers.store.lookup(OTHER_KEY) == Absent(reason="absent")
    assert tiers.counters(TierName.L2).error_count == 2
    assert tiers.counters(TierName.L2).lookup_count == 0


async def test_an_unreadable_entry_is_a_miss_and_counted(tiers):
    await tiers.second.put(KEY, an_entry(wall=tiers.clock.wall()))
    tiers.second.data[KEY] = tiers.second.data[KEY][:-1]
    assert await tiers.store.lookup(KEY) == Absent(reason="unreadable")
    assert tiers.counters(TierName.L2).unreadable_count == 1


async def test_an_entry_swapped_under_another_key_is_a_miss(tiers):
    await tiers.second.put(KEY, an_entry(wall=tiers.clock.wall()))
    tiers.second.data[OTHER_KEY] = tiers.second.data[KEY]
    assert await tiers.store.lookup(OTHER_KEY) == Absent(reason="unreadable")


async def test_an_expired_entry_is_a_miss(tiers):
    await tiers.second.put(KEY, an_entry(wall=tiers.clock.wall(), lives_s=10))
    await tiers.clock.advance(11)
    assert await tiers.store.lookup(KEY) == Absent(reason="expired")


async def test_an_entry_older_than_the_caller_accepts_is_a_miss(tiers):
    await tiers.store.commit(KEY, an_entry(wall=tiers.clock.wall()))
    await tiers.clock.advance(5)
    assert isinstance(await tiers.store.lookup(KEY, max_age_s=5), Found)
    assert await tiers.store.lookup(KEY, max_age_s=4.9) == Absent(reason="too old")


async def test_a_newer_entry_of_the_next_tier_serves_where_the_first_is_too_old(tiers):
    await tiers.first.put(KEY, an_entry(b"old", wall=tiers.clock.wall()))
    await tiers.clock.advance(10)
    await tiers.second.put(KEY, an_entry(b"new", wall=tiers.clock.wall()))
    found = await tiers.store.lookup(KEY, max_age_s=5)
    assert found.entry.payload == b"new"
    assert (await tiers.first.get(KEY)).payload == b"new"


async def test_an_entry_from_a_clock_that_is_ahead_is_new(tiers):
    await tiers.store.commit(KEY, an_entry(wall=tiers.clock.wall() + 3))
    assert (await tiers.store.lookup(KEY, max_age_s=0)).age_s == 0


async def test_the_size_of_a_tier_that_is_down_is_unknown(tiers):
    tiers.second.is_down = True
    first, second = await tiers.store.report()
    assert first.size.entry_count == 0
    assert second.size.entry_count == -1


async def test_a_full_queue_drops_writes_and_counts_them():
    store = FakeStore()
    writes = WriteBehind(store, max_entries=2, max_bytes=10_000)
    entry = an_entry(wall=1e9)
    assert [writes.offer(KEY, entry), writes.offer(OTHER_KEY, entry), writes.offer(KEY, entry)] == [True, True, False]
    assert not WriteBehind(store, max_entries=2, max_bytes=3).offer(KEY, entry)
    writer = asyncio.create_task(writes.run())
    await asyncio.wait_for(writes.flush(), 1)
    writer.cancel()
    assert set(store.data) == {KEY, OTHER_KEY}
    assert writes.failed_count == 1


async def test_the_writer_outlives_a_tier_that_is_down():
    store = FakeStore()
    store.is_down = True
    writes = WriteBehind(store, max_entries=10, max_bytes=10_000)
    writer = asyncio.create_task(writes.run())
    writes.offer(KEY, an_entry(wall=1e9))
    await asyncio.wait_for(writes.flush(), 1)
    store.is_down = False
    writes.offer(OTHER_KEY, an_entry(wall=1e9))
    await asyncio.wait_for(writes.flush(), 1)
    writer.cancel()
    assert set(store.data) == {OTHER_KEY}
    assert writes.failed_count == 1


@pytest.mark.parametrize(
    ("asked_s", "random", "expected_s"),
    [(None, 0.0, 100), (None, 0.5, 95), (30, 0.5, 30), (9999, 0.5, 500), (None, 0.999999, 90)],
)
def test_default_lifetimes_are_jittered_and_asked_ones_kept_up_to_the_limit(asked_s, random, expected_s):
    lifetimes = Lifetimes(default_s=100, longest_s=500, jitter=0.1, random=lambda: random)
    assert lifetimes.seconds(asked_s) == pytest.approx(expected_s, rel=1e-5)
