"""The order of look-up: faster tiers first, broken ones passed over, copies for the faster, writes off the path."""

import asyncio

import pytest

from meshkit.testing.clock import FakeClock
from services.cache.latency import BOUNDS_S, Latency
from services.cache.lifetime import Lifetimes, TierLifetime
from services.cache.memory_tier import MemoryTier
from services.cache.tiered import Absent, Found, Level, TieredStore, TierName
from services.cache.write_behind import WriteBehind
from tests.support.cache_stores import KEY, OTHER_KEY, FakeStore, an_entry


class Tiers:
    """L1 in memory, a fake L2 and a fake L3, directly written."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.first = MemoryTier(budget_bytes=1_000_000, lifetime=TierLifetime(ttl_s=300), clock=self.clock)
        self.second = FakeStore()
        self.third = FakeStore()
        stores = (self.first, self.second, self.third)
        levels = [Level(name=name, store=store) for name, store in zip(TierName, stores, strict=True)]
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


async def test_what_the_third_tier_has_is_copied_into_both_others(tiers):
    await tiers.third.put(KEY, an_entry(wall=tiers.clock.wall()))
    assert (await tiers.store.lookup(KEY)).tier is TierName.L3
    assert await tiers.first.get(KEY) == await tiers.second.get(KEY) == await tiers.third.get(KEY)


async def test_an_entry_is_stale_between_its_time_to_live_and_its_end(tiers):
    await tiers.store.commit(KEY, an_entry(wall=tiers.clock.wall(), fresh_s=10, lives_s=20))
    await tiers.clock.advance(9)
    assert not (await tiers.store.lookup(KEY)).is_stale
    await tiers.clock.advance(2)
    assert (await tiers.store.lookup(KEY)).is_stale
    await tiers.clock.advance(10)
    assert await tiers.store.lookup(KEY) == Absent(reason="expired")


async def test_a_fresh_entry_of_a_later_tier_serves_before_a_stale_one_and_replaces_it(tiers):
    await tiers.first.put(KEY, an_entry(b"stale", wall=tiers.clock.wall(), fresh_s=-1))
    await tiers.second.put(KEY, an_entry(b"stale too", wall=tiers.clock.wall(), fresh_s=-1))
    await tiers.third.put(KEY, an_entry(b"fresh", wall=tiers.clock.wall()))
    found = await tiers.store.lookup(KEY)
    assert (found.entry.payload, found.tier, found.is_stale) == (b"fresh", TierName.L3, False)
    assert (await tiers.first.get(KEY)).payload == b"fresh"
    assert [tiers.counters(name).hit_count for name in TierName] == [0, 0, 1]


async def test_a_stale_entry_serves_where_no_tier_that_answers_has_a_fresh_one(tiers):
    await tiers.second.put(KEY, an_entry(b"stale", wall=tiers.clock.wall(), fresh_s=-1))
    tiers.third.is_down = True
    found = await tiers.store.lookup(KEY)
    assert (found.tier, found.is_stale) == (TierName.L2, True)
    assert tiers.counters(TierName.L2).hit_count == 1


async def test_each_tier_counts_the_bytes_it_gave_and_the_time_it_took(tiers):
    entry = an_entry(wall=tiers.clock.wall())
    await tiers.second.put(KEY, entry)
    await tiers.store.lookup(KEY)
    await tiers.store.lookup(KEY)
    assert [tiers.counters(name).hit_bytes for name in TierName] == [entry.size_bytes, entry.size_bytes, 0]
    assert [sum(tiers.counters(name).latency.counts) for name in TierName] == [2, 1, 0]


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
    first, second, _ = await tiers.store.report()
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


@pytest.mark.parametrize(
    ("remaining_s", "random", "expected_s"),
    [(50, 0.0, 50), (100, 0.5, 100), (200, 0.0, 100), (200, 0.5, 95), (-1, 0, -1)],
)
def test_a_tier_keeps_a_copy_for_its_own_jittered_time_or_what_remains(remaining_s, random, expected_s):
    assert TierLifetime(ttl_s=100, jitter=0.1, random=lambda: random).seconds(remaining_s) == pytest.approx(expected_s)


def test_the_steps_of_the_latency_histogram_hold_what_is_not_over_their_end():
    latency = Latency()
    for seconds in (0.0, BOUNDS_S[0], BOUNDS_S[3], BOUNDS_S[-1] * 2):
        latency.add(seconds)
    assert latency.counts == [2, 0, 0, 1, *[0] * (len(BOUNDS_S) - 4), 1]
    assert latency.total_s == pytest.approx(BOUNDS_S[0] + BOUNDS_S[3] + BOUNDS_S[-1] * 2)


class SlowStore(FakeStore):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()

    async def get(self, key: bytes):
        await self.may_answer.wait()
        return await super().get(key)


async def test_however_many_ask_at_once_the_tiers_behind_the_first_are_asked_once(tiers):
    tiers.second = slow = SlowStore()
    stores = (tiers.first, slow, tiers.third)
    store = TieredStore([Level(name=name, store=one) for name, one in zip(TierName, stores, strict=True)], tiers.clock)
    await slow.put(KEY, an_entry(wall=tiers.clock.wall()))
    asking = [asyncio.create_task(store.lookup(KEY)) for _ in range(20)]
    async with asyncio.timeout(10):
        while dict(store.counters())[TierName.L1].lookup_count < len(asking):
            await asyncio.sleep(0)
    slow.may_answer.set()
    found = await asyncio.gather(*asking)
    assert {one.tier for one in found} == {TierName.L2}
    counters = dict(store.counters())
    assert (counters[TierName.L2].lookup_count, counters[TierName.L2].hit_count) == (1, 1)


async def test_who_finds_it_in_the_first_tier_waits_for_no_other(tiers):
    tiers.second = SlowStore()
    await tiers.first.put(KEY, an_entry(wall=tiers.clock.wall()))
    levels = [Level(name=TierName.L1, store=tiers.first), Level(name=TierName.L2, store=tiers.second)]
    async with asyncio.timeout(10):
        assert (await TieredStore(levels, tiers.clock).lookup(KEY)).tier is TierName.L1
