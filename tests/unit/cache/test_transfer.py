"""Entries out of one cache and into another: each once, alive, not invalidated, for the caller's own tenant."""

import dataclasses

import pytest

from meshkit.errors import BackendDown
from meshkit.testing.clock import FakeClock
from services.cache.entry import Entry
from services.cache.epoch_keeper import EpochKeeper
from services.cache.epochs import EVERYTHING
from services.cache.request_key import partition, storage_key
from services.cache.response_cache import Caller
from services.cache.settings import EntrySettings, EpochSettings
from services.cache.tiered import Found, Level, TieredStore, TierName
from services.cache.transfer import Fate, Portable, Transfer
from tests.support.cache_stores import FakeStore

ANN = Caller(tenant="ann", principal="")
BOB = Caller(tenant="bob", principal="")
LIMITS = EntrySettings(max_bytes=100, max_tags=2, max_tag_bytes=5, max_ttl_s=1000)
DIGEST = bytes(range(32))


class Cache:
    def __init__(self, clock, *, keys_a_part=100) -> None:
        self.clock = clock
        self.tiers = [FakeStore(), FakeStore()]
        levels = [Level(name=TierName(number + 1), store=store) for number, store in enumerate(self.tiers)]
        self.keeper = EpochKeeper(EpochSettings(), longest_life_s=1000, clock=clock)
        self.store = TieredStore(levels, clock, self.keeper.objection)
        self.transfer = Transfer(self.store, self.keeper, limits=LIMITS, clock=clock, keys_a_part=keys_a_part)

    def entry(self, payload=b"x", **changes) -> Entry:
        wall = self.clock.wall()
        entry = Entry(payload=payload, stored_at=wall, fresh_until=wall + 50, expires_at=wall + 60, epoch=0)
        return dataclasses.replace(entry, **changes)

    async def exported(self, caller) -> dict[bytes, Entry]:
        found = [portable async for portable, _ in self.transfer.entries(caller)]
        assert len({portable.digest for portable in found}) == len(found)
        return {portable.digest: portable.entry for portable in found}

    async def take(self, caller, entry, digest=DIGEST, **options) -> Fate:
        (fate,) = await self.transfer.take(
            caller, [Portable(digest=digest, entry=entry)], **{"as_new": False, **options}
        )
        return fate

    async def found(self, caller, digest=DIGEST):
        return await self.store.lookup(storage_key(caller.tenant, digest))


@pytest.fixture
def here():
    return Cache(FakeClock())


async def test_each_of_the_tenants_entries_comes_out_once_whichever_tier_has_it(here):
    both, second, bobs = here.entry(b"both"), here.entry(b"second"), here.entry(b"bob's")
    await here.store.commit(storage_key("ann", bytes(32)), both)
    await here.tiers[1].put(storage_key("ann", b"\x01" * 32), second)
    await here.store.commit(storage_key("bob", bytes(32)), bobs)
    assert await here.exported(ANN) == {bytes(32): both, b"\x01" * 32: second}


async def test_a_tenant_with_too_many_entries_for_one_part_comes_out_whole():
    here = Cache(FakeClock(), keys_a_part=3)
    digests = [bytes([number]) * 32 for number in range(10)] + [bytes([7, number]) * 16 for number in range(10)]
    for digest in digests:
        await here.store.commit(storage_key("ann", digest), here.entry())
    assert set(await here.exported(ANN)) == set(digests)


async def test_what_can_not_be_served_stays_inside(here):
    await here.store.commit(storage_key("ann", bytes(32)), here.entry())
    await here.keeper.give(partition("ann"), EVERYTHING)
    await here.store.commit(storage_key("ann", DIGEST), here.entry(epoch=here.keeper.number(partition("ann"))))
    assert set(await here.exported(ANN)) == {DIGEST}
    await here.clock.advance(61)
    assert await here.exported(ANN) == {}


async def test_a_tier_that_does_not_answer_fails_the_export_instead_of_shortening_it(here):
    here.tiers[1].is_down = True
    with pytest.raises(BackendDown, match="L2"):
        await here.exported(ANN)


async def test_what_is_taken_is_found_with_its_age_and_end_by_its_taker_only(here):
    entry = here.entry()
    assert await here.take(BOB, entry) is Fate.STORED
    await here.clock.advance(7)
    found = await here.found(BOB)
    assert (found.entry, found.age_s) == (entry, 7)
    assert not isinstance(await here.found(ANN), Found)
    assert all(len(store.data) == 1 for store in here.tiers)


async def test_a_way_out_and_in_again_changes_no_entry(here):
    there = Cache(here.clock)
    for number in range(5):
        entry = here.entry(b"%d" % number, tags=("a", "b"), revision="r")
        await here.store.commit(storage_key("ann", bytes([number]) * 32), entry)
    out = await here.exported(ANN)
    for digest, entry in out.items():
        await there.take(ANN, entry, digest)
    assert await there.exported(ANN) == out


async def test_what_was_invalidated_here_since_is_left_out_unless_taken_as_new(here):
    old = here.entry()
    await here.keeper.give(partition("ann"), EVERYTHING)
    assert await here.take(ANN, old) is Fate.INVALIDATED
    assert await here.take(ANN, dataclasses.replace(old, epoch=2**60)) is Fate.STORED
    assert await here.take(ANN, old, digest=bytes(32), as_new=True) is Fate.STORED
    await here.keeper.give(partition("ann"), EVERYTHING)
    assert not isinstance(await here.found(ANN), Found)
    assert not isinstance(await here.found(ANN, bytes(32)), Found)


@pytest.mark.parametrize(
    ("changes", "fate"),
    [
        ({"expires_at": 0.0}, Fate.EXPIRED),
        ({"payload": b""}, Fate.REFUSED),
        ({"payload": b"x" * 101}, Fate.REFUSED),
        ({"tags": ("a", "b", "c")}, Fate.REFUSED),
        ({"tags": ("sixsix",)}, Fate.REFUSED),
        ({"tags": ("",)}, Fate.REFUSED),
    ],
)
async def test_what_is_over_or_outside_the_limits_is_left_out(here, changes, fate):
    assert await here.take(ANN, here.entry(**changes)) is fate
    assert not any(store.data for store in here.tiers)


@pytest.mark.parametrize("length", [0, 31, 33])
async def test_a_digest_of_another_length_is_refused(here, length):
    assert await here.take(ANN, here.entry(), digest=bytes(length)) is Fate.REFUSED


async def test_nothing_lives_longer_than_the_limit_here_or_was_stored_in_the_future(here):
    wall = here.clock.wall()
    await here.take(ANN, here.entry(stored_at=wall + 99, fresh_until=wall + 9999, expires_at=wall + 9999))
    entry = (await here.found(ANN)).entry
    assert (entry.stored_at, entry.expires_at) == (wall, wall + 1000)
