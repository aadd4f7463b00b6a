"""What an order hides, counts, deletes and records: over all tiers, for one tenant, once for each key."""

import dataclasses
import json
import logging

import pytest

from meshkit.errors import InvalidRequest
from meshkit.telemetry.logs import JsonFormatter
from meshkit.testing.clock import FakeClock
from services.cache.audit import RECORDS_OF_A_TENANT, Audit
from services.cache.entry import Entry, Finish
from services.cache.epoch_keeper import EpochKeeper
from services.cache.epochs import EVERYTHING, Kind, Selector
from services.cache.invalidations import Invalidations, Order
from services.cache.lifetime import Lifetimes
from services.cache.request_key import storage_key
from services.cache.response_cache import Answer, Caller, Query, ResponseCache
from services.cache.settings import EntrySettings, EpochSettings
from services.cache.shared_epochs import LocalEpochs
from services.cache.tally import REMEMBERED_KEYS, tally
from services.cache.ticket import Ticket
from services.cache.tier import Swept
from services.cache.tiered import Absent, Found, Level, TieredStore, TierName
from tests.support.cache_stores import FakeStore
from tests.support.flight_stores import own_flights

ANN = Caller(tenant="ann", principal="ann's service")
BOB = Caller(tenant="bob", principal="bob's service")
TAG = Selector(kind=Kind.TAG, value=b"faq")
REVISION = Selector(kind=Kind.REVISION, value=b"r1")
TIME_S = 10.0
SETTINGS = EpochSettings(poll_s=0.001, timeout_s=0.001, bound_s=0.002)
"""Nobody asks the shared memory in these tests, so a look-up that waits for it shall not wait long."""


class Instance:
    """One cache over two fake tiers; several may share the memory of rules."""

    def __init__(self, clock, shared=None) -> None:
        self.clock = clock
        self.tiers = [FakeStore(), FakeStore()]
        levels = [Level(name=TierName(number + 1), store=store) for number, store in enumerate(self.tiers)]
        self.keeper = EpochKeeper(SETTINGS, longest_life_s=1000, clock=clock, shared=shared)
        self.store = TieredStore(levels, clock, self.keeper.objection)
        lifetimes = Lifetimes(default_s=300, longest_s=1000, jitter=0, random=lambda: 0.0)
        self.cache = ResponseCache(
            self.store,
            own_flights(clock),
            limits=EntrySettings(),
            lifetimes=lifetimes,
            clock=clock,
            epochs=self.keeper,
        )
        self.audit = Audit()
        self.invalidations = Invalidations(self.store, self.keeper, self.audit, clock)

    async def looked(self, caller, text):
        request = {"prompt": {"text": text}, "model": "m", "sampling": {"temperature": 0.0}}
        return await self.cache.lookup(caller, Query(request=request))

    async def commit(self, caller, text, *, tags=(), revision="r1") -> bytes:
        digest = (await self.looked(caller, text)).digest
        answer = Answer(payload=text.encode(), finish=Finish.STOP, tags=tags, revision=revision)
        assert await self.cache.commit(caller, digest, answer) == ""
        return digest

    async def has(self, caller, text) -> bool:
        return isinstance((await self.looked(caller, text)).result, Found)

    async def invalidate(self, caller, selector, *, is_applied=True, time_s=TIME_S, **options):
        order = Order(selector=selector, is_applied=is_applied, **options)
        return await self.invalidations.invalidate(caller, order, time_s=time_s)


@pytest.fixture
def here():
    return Instance(FakeClock())


async def test_a_dry_run_counts_each_entry_once_and_changes_nothing(here):
    await here.commit(ANN, "one", tags=("faq",))
    await here.commit(ANN, "three")
    await here.commit(BOB, "one", tags=("faq",))
    outcome = await here.invalidate(ANN, TAG, is_applied=False)
    assert (outcome.epoch, outcome.tally.entry_count, outcome.tally.is_exact) == (0, 1, True)
    assert outcome.tally.size_bytes == len(b"one") + len("r1") + len("faq")
    assert [(tier.tier, tier.entry_count) for tier in outcome.tally.tiers] == [(TierName.L1, 1), (TierName.L2, 1)]
    assert await here.has(ANN, "one")
    assert here.audit.of("ann") == []


@pytest.mark.parametrize(
    ("selector", "hidden"),
    [(TAG, {"tagged"}), (REVISION, {"tagged", "old"}), (EVERYTHING, {"tagged", "old", "new"})],
    ids=["tag", "revision", "everything"],
)
async def test_what_is_selected_is_hidden_and_deleted_and_nothing_else(here, selector, hidden):
    await here.commit(ANN, "tagged", tags=("faq",))
    await here.commit(ANN, "old")
    await here.commit(ANN, "new", revision="r2")
    await here.commit(BOB, "tagged", tags=("faq",))
    outcome = await here.invalidate(ANN, selector)
    assert outcome.tally.entry_count == len(hidden)
    for text in ("tagged", "old", "new"):
        assert await here.has(ANN, text) == (text not in hidden)
    assert await here.has(BOB, "tagged")
    assert [len(store.data) for store in here.tiers] == [4 - len(hidden)] * 2
    assert (await here.invalidate(ANN, selector)).tally.entry_count == 0


async def test_a_digests_first_bytes_select_it(here):
    digest = await here.commit(ANN, "one")
    await here.commit(ANN, "other")
    outcome = await here.invalidate(ANN, Selector(kind=Kind.DIGEST_PREFIX, value=digest[:32]))
    assert outcome.tally.entry_count == 1
    assert (await here.looked(ANN, "one")).result == Absent(reason="absent")
    assert await here.has(ANN, "other")


async def test_a_bump_hides_everything_older_at_once_and_what_is_made_later_is_found(here):
    await here.commit(ANN, "one")
    bumped = await here.invalidations.bump(ANN, Order(is_applied=True))
    assert bumped.epoch == here.keeper.number(storage_key("ann", b"")) > 0
    assert (await here.looked(ANN, "one")).result == Absent(reason="invalidated")
    await here.commit(ANN, "one")
    assert await here.has(ANN, "one")


async def test_what_a_slow_tier_brings_back_later_is_hidden_too(here):
    await here.commit(ANN, "one")
    kept = dict(here.tiers[1].data)
    await here.invalidate(ANN, EVERYTHING)
    here.tiers[1].data.update(kept)
    assert (await here.looked(ANN, "one")).result == Absent(reason="invalidated")
    assert not here.tiers[0].data


async def test_an_answer_whose_generation_began_before_is_not_stored(here):
    looked = await here.looked(ANN, "one")
    await here.invalidations.bump(ANN, Order(is_applied=True))
    reason = await here.cache.commit(ANN, looked.digest, Answer(payload=b"old", finish=Finish.STOP))
    assert "invalidated" in reason
    assert not await here.has(ANN, "one")


async def test_a_forged_digest_can_not_claim_to_be_newer_than_the_next_invalidation(here):
    digest = (await here.looked(ANN, "one")).digest[:32]
    forged = bytes(Ticket(digest=digest, epoch=2**63))
    await here.cache.commit(ANN, forged, Answer(payload=b"x", finish=Finish.STOP))
    assert await here.has(ANN, "one")
    await here.invalidations.bump(ANN, Order(is_applied=True))
    assert not await here.has(ANN, "one")


async def test_a_bare_digest_of_an_older_version_is_taken_as_the_oldest(here):
    digest = (await here.looked(ANN, "one")).digest[:32]
    assert await here.cache.commit(ANN, digest, Answer(payload=b"x", finish=Finish.STOP)) == ""
    assert await here.has(ANN, "one")


@pytest.mark.parametrize("length", [0, 31, 33, 39, 41])
async def test_a_digest_of_another_length_is_refused(here, length):
    with pytest.raises(InvalidRequest) as raised:
        await here.cache.commit(ANN, bytes(length), Answer(payload=b"x", finish=Finish.STOP))
    assert raised.value.field == "digest"


async def test_a_tier_that_is_down_is_hidden_and_the_count_says_at_least(here):
    await here.commit(ANN, "one")
    here.tiers[1].is_down = True
    outcome = await here.invalidate(ANN, EVERYTHING)
    assert (outcome.tally.entry_count, outcome.tally.is_exact) == (1, False)
    assert [tier.is_complete for tier in outcome.tally.tiers] == [True, False]
    here.tiers[1].is_down = False
    assert (await here.looked(ANN, "one")).result == Absent(reason="invalidated")


async def test_deleting_stops_when_its_time_is_over_and_the_entries_are_hidden_all_the_same(here):
    await here.commit(ANN, "one")

    async def endless(prefix, matches, *, apply):
        await FakeClock().sleep(1)
        return Swept(entry_count=0, size_bytes=0)

    here.tiers[0].sweep = endless
    outcome = await here.invalidate(ANN, EVERYTHING, time_s=0.01)
    assert not outcome.tally.is_exact
    assert [tier.tier for tier in outcome.tally.tiers] == [TierName.L1, TierName.L2]
    assert not await here.has(ANN, "one")


async def test_two_orders_with_one_key_are_one_also_at_another_instance():
    clock = FakeClock()
    memory = LocalEpochs(clock)
    one, other = Instance(clock, memory), Instance(clock, memory)
    await one.commit(ANN, "a")
    first = await one.invalidate(ANN, EVERYTHING, idempotency_key="k")
    await one.commit(ANN, "a")
    again = await other.invalidate(ANN, EVERYTHING, idempotency_key="k")
    assert again == first
    assert await one.has(ANN, "a")
    assert len((await memory.hear(0)).rules) == 1
    assert len(one.audit.of("ann")) == 1


async def test_a_key_is_a_tenants_own_and_a_dry_run_does_not_use_it_up(here):
    await here.invalidate(ANN, EVERYTHING, idempotency_key="k", is_applied=False)
    first = await here.invalidate(ANN, EVERYTHING, idempotency_key="k")
    assert (await here.invalidate(BOB, EVERYTHING, idempotency_key="k")).epoch > first.epoch


async def test_another_order_under_a_used_key_is_refused_and_hides_nothing(here):
    await here.invalidate(ANN, TAG, idempotency_key="k")
    await here.commit(ANN, "one")
    with pytest.raises(InvalidRequest) as raised:
        await here.invalidate(ANN, EVERYTHING, idempotency_key="k")
    assert raised.value.field == "idempotency_key"
    assert await here.has(ANN, "one")


async def test_the_record_says_who_what_why_and_how_much_and_nothing_of_the_answers(here, caplog):
    await here.commit(ANN, "secret answer", tags=("faq",))
    with caplog.at_level(logging.INFO):
        outcome = await here.invalidate(ANN, TAG, reason="the FAQ changed")
    line = json.loads(JsonFormatter("cache").format(caplog.records[-1]))
    (kept,) = here.audit.of("ann")
    assert {key: line[key] for key in dataclasses.asdict(kept)} == dataclasses.asdict(kept)
    assert (kept.principal, kept.selector, kept.value) == ("ann's service", "tag", "faq")
    assert (kept.reason, kept.entry_count, kept.epoch) == ("the FAQ changed", 1, outcome.epoch)
    assert "secret" not in json.dumps(line)
    assert here.audit.of("bob") == []


async def test_records_are_kept_up_to_a_bound_newest_first(here):
    for number in range(RECORDS_OF_A_TENANT + 5):
        await here.invalidate(ANN, TAG, reason=f"{number}", time_s=0.0)
    records = here.audit.of("ann")
    assert len(records) == RECORDS_OF_A_TENANT
    assert records[0].reason == f"{RECORDS_OF_A_TENANT + 4}"


class Many:
    """A tier that holds so many entries, without holding them."""

    def __init__(self, count: int) -> None:
        self._count = count

    async def sweep(self, prefix, matches, *, apply):
        entry = Entry(payload=b"", stored_at=0, fresh_until=1, expires_at=1, epoch=0)
        for number in range(self._count):
            matches(number.to_bytes(48, "big"), entry)
        return Swept(entry_count=0, size_bytes=0)


async def test_too_many_entries_to_remember_are_counted_as_at_least_so_many():
    levels = [
        Level(name=TierName.L1, store=Many(REMEMBERED_KEYS)),
        Level(name=TierName.L2, store=Many(REMEMBERED_KEYS + 7)),
    ]
    found = await tally(levels, b"", counts=lambda key, entry: True, forgets=None, time_s=60)
    assert (found.entry_count, found.is_exact) == (REMEMBERED_KEYS + 7, False)
