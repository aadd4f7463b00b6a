"""What look-ups and commits mean: tenants, scopes, modes, completeness and limits."""

import pytest

from meshkit.errors import InvalidRequest
from meshkit.testing.clock import FakeClock
from services.cache.entry import Finish
from services.cache.lifetime import Lifetimes, TierLifetime
from services.cache.memory_tier import MemoryTier
from services.cache.response_cache import (
    NOT_STORABLE,
    Answer,
    Caller,
    Looked,
    Mode,
    Query,
    ResponseCache,
    Scope,
    flight_key,
)
from services.cache.semantic.verdict import Decider
from services.cache.settings import EntrySettings
from services.cache.single_flight import FlightTicket, LeaseId
from services.cache.tiered import Absent, Found, Level, TieredStore, TierName
from tests.support.flight_stores import own_flights

REQUEST = {"prompt": {"text": "hi"}, "model": "m", "sampling": {"temperature": 0.0}}
ANN = Caller(tenant="t1", principal="ann")
BOB = Caller(tenant="t1", principal="bob")
EVE = Caller(tenant="t2", principal="ann")
ANSWER = Answer(payload=b"stored", finish=Finish.STOP)


@pytest.fixture
def cache():
    clock = FakeClock()
    first = MemoryTier(budget_bytes=10_000_000, lifetime=TierLifetime(ttl_s=300), clock=clock)
    store = TieredStore([Level(name=TierName.L1, store=first)], clock)
    lifetimes = Lifetimes(default_s=300, longest_s=1000, jitter=0, random=lambda: 0.0)
    limits = EntrySettings(max_bytes=1000)
    return ResponseCache(store, own_flights(clock), limits=limits, lifetimes=lifetimes, clock=clock)


async def test_an_answer_may_be_served_stale_for_as_long_as_the_settings_say():
    clock = FakeClock()
    first = MemoryTier(budget_bytes=10_000_000, lifetime=TierLifetime(ttl_s=1e9), clock=clock)
    store = TieredStore([Level(name=TierName.L1, store=first)], clock)
    lifetimes = Lifetimes(default_s=300, longest_s=1000, jitter=0, random=lambda: 0.0)
    for stale_s, waits in ((0.0, [False, None, None]), (60.0, [False, True, None])):
        limits = EntrySettings(stale_s=stale_s)
        cache = ResponseCache(store, own_flights(clock), limits=limits, lifetimes=lifetimes, clock=clock)
        await commit(cache, ANN)
        for seconds, expected in zip((299, 2, 60), waits, strict=True):
            await clock.advance(seconds)
            result = (await cache.lookup(ANN, Query(request=REQUEST))).result
            assert (result.is_stale if isinstance(result, Found) else None) is expected


async def test_of_all_who_get_a_stale_answer_one_is_to_make_it_anew_and_the_rest_just_get_it():
    clock = FakeClock()
    first = MemoryTier(budget_bytes=10_000_000, lifetime=TierLifetime(ttl_s=1e9), clock=clock)
    store = TieredStore([Level(name=TierName.L1, store=first)], clock)
    lifetimes = Lifetimes(default_s=300, longest_s=1000, jitter=0, random=lambda: 0.0)
    limits = EntrySettings(stale_s=60.0)
    cache = ResponseCache(store, own_flights(clock), limits=limits, lifetimes=lifetimes, clock=clock)
    await commit(cache, ANN)
    wanting = Query(request=REQUEST, regenerates_stale=True, shares_generation=True)
    assert (await cache.lookup(ANN, wanting)).regeneration is None, "it is fresh"
    await clock.advance(301)
    assert (await cache.lookup(ANN, Query(request=REQUEST))).regeneration is None, "who can't is not asked to"
    looked = [await cache.lookup(caller, wanting) for caller in (ANN, BOB, ANN)]
    assert all(isinstance(one.result, Found) and one.result.is_stale for one in looked)
    assert [one.regeneration is not None for one in looked] == [True, False, False]
    assert LeaseId.parse(looked[0].regeneration).digest == looked[0].digest
    too_old = await cache.lookup(BOB, Query(request=REQUEST, shares_generation=True, max_age_s=100))
    assert isinstance(too_old.result, FlightTicket) and not too_old.result.leads, "the same generation serves a miss"


async def is_hit(cache, caller, **query) -> bool:
    return isinstance((await cache.lookup(caller, Query(request=REQUEST, **query))).result, Found)


async def commit(cache, caller, **query) -> bytes:
    digest = (await cache.lookup(caller, Query(request=REQUEST, **query))).digest
    assert await cache.commit(caller, digest, ANSWER) == ""
    return digest


async def test_an_answer_is_shared_within_the_tenant_and_never_beyond(cache):
    await commit(cache, ANN)
    assert await is_hit(cache, BOB)
    assert not await is_hit(cache, EVE)


async def test_a_commit_under_a_foreign_digest_reaches_only_ones_own_tenant(cache):
    digest = (await cache.lookup(ANN, Query(request=REQUEST))).digest
    await cache.commit(EVE, digest, ANSWER)
    assert not await is_hit(cache, ANN)
    assert await is_hit(cache, EVE)


async def test_scope_principal_shares_with_the_same_principal_only(cache):
    await commit(cache, ANN, scope=Scope.PRINCIPAL)
    assert await is_hit(cache, ANN, scope=Scope.PRINCIPAL)
    assert not await is_hit(cache, BOB, scope=Scope.PRINCIPAL)
    assert not await is_hit(cache, ANN)


async def test_scope_session_shares_within_the_session_of_one_principal(cache):
    await commit(cache, ANN, scope=Scope.SESSION, session_id="s")
    assert await is_hit(cache, ANN, scope=Scope.SESSION, session_id="s")
    assert not await is_hit(cache, ANN, scope=Scope.SESSION, session_id="s2")
    assert not await is_hit(cache, BOB, scope=Scope.SESSION, session_id="s")


async def test_the_session_does_not_matter_in_scope_tenant_which_is_the_default(cache):
    await commit(cache, ANN, session_id="s")
    assert await is_hit(cache, ANN, session_id="other", scope=Scope.TENANT)


@pytest.mark.parametrize(
    ("caller", "scope", "field"),
    [(Caller(tenant="t", principal=""), Scope.PRINCIPAL, "key.scope"), (ANN, Scope.SESSION, "key.session_id")],
)
async def test_a_scope_without_its_owner_is_refused(cache, caller, scope, field):
    with pytest.raises(InvalidRequest) as raised:
        await cache.lookup(caller, Query(request=REQUEST, scope=scope))
    assert raised.value.field == field


async def test_an_unrepeatable_request_is_stored_and_found_only_where_the_caller_says_so(cache):
    unrepeatable = {**REQUEST, "sampling": {"temperature": 0.7}}
    looked = await cache.lookup(ANN, Query(request=unrepeatable))
    assert looked == Looked(digest=NOT_STORABLE, result=Absent(reason="not repeatable"))
    looked = await cache.lookup(ANN, Query(request=unrepeatable, mode=Mode.EXACT))
    await cache.commit(ANN, looked.digest, ANSWER)
    assert (await cache.lookup(ANN, Query(request=unrepeatable))).result == Absent(reason="not repeatable")
    assert isinstance((await cache.lookup(ANN, Query(request=unrepeatable, mode=Mode.EXACT))).result, Found)


async def test_mode_off_finds_nothing(cache):
    await commit(cache, ANN)
    assert not await is_hit(cache, ANN, mode=Mode.OFF)


async def test_a_cache_without_look_up_by_meaning_finds_exact_matches_and_says_so(cache):
    looked = await cache.lookup(ANN, Query(request=REQUEST, mode=Mode.SEMANTIC))
    assert looked.verdict.decided_by is Decider.UNAVAILABLE
    await commit(cache, ANN)
    assert await is_hit(cache, ANN, mode=Mode.SEMANTIC)


@pytest.mark.parametrize("finish", list(Finish))
async def test_only_whole_answers_are_stored(cache, finish):
    reason = await cache.commit(ANN, b"d" * 32, Answer(payload=b"x", finish=finish))
    assert (reason == "") == (finish is not Finish.INCOMPLETE)


async def test_an_answer_over_the_limit_is_not_stored_and_the_reply_says_why(cache):
    assert await cache.commit(ANN, b"d" * 32, Answer(payload=b"x" * 1000, finish=Finish.STOP)) == ""
    assert "1000 bytes" in await cache.commit(ANN, b"e" * 32, Answer(payload=b"x" * 1001, finish=Finish.STOP))


@pytest.mark.parametrize(
    ("digest", "changes", "field"),
    [
        (b"short", {}, "digest"),
        (b"", {}, "digest"),
        (b"d" * 32, {"ttl_s": 0.0}, "ttl"),
        (b"d" * 32, {"tags": ("t",) * 17}, "tags"),
        (b"d" * 32, {"tags": ("",)}, "tags"),
        (b"d" * 32, {"tags": ("t" * 129,)}, "tags"),
    ],
)
async def test_a_commit_outside_its_limits_is_refused_with_the_field(cache, digest, changes, field):
    with pytest.raises(InvalidRequest) as raised:
        await cache.commit(ANN, digest, Answer(payload=b"x", finish=Finish.STOP, **changes))
    assert raised.value.field == field
    assert raised.value.limit


async def sharing(cache, caller=ANN, **query) -> Looked:
    return await cache.lookup(caller, Query(request=REQUEST, shares_generation=True, **query))


async def test_of_two_that_ask_the_same_at_once_one_leads_and_one_follows(cache):
    first, second = await sharing(cache), await sharing(cache, BOB)
    assert isinstance(first.result, FlightTicket) and first.result.leads
    assert isinstance(second.result, FlightTicket) and not second.result.leads


async def test_tenants_share_no_flight(cache):
    for caller in (ANN, EVE):
        looked = await sharing(cache, caller)
        assert isinstance(looked.result, FlightTicket) and looked.result.leads


async def test_who_asks_without_sharing_gets_a_plain_miss(cache):
    await sharing(cache)
    assert isinstance((await cache.lookup(ANN, Query(request=REQUEST))).result, Absent)


async def test_a_request_that_is_not_repeatable_shares_nothing(cache):
    looked = await cache.lookup(ANN, Query(request={**REQUEST, "sampling": {}}, shares_generation=True))
    assert isinstance(looked.result, Absent) and looked.digest == NOT_STORABLE


async def test_who_comes_between_an_answer_and_its_place_in_the_tiers_follows_and_does_not_generate(cache):
    leader = await sharing(cache)
    await cache._flights.finish(flight_key(ANN, leader.digest), LeaseId.parse(leader.result.lease_id), b"end")
    late = await sharing(cache, BOB)
    assert isinstance(late.result, FlightTicket) and not late.result.leads


async def test_who_wants_an_answer_newer_than_a_finished_flight_leads(cache):
    leader = await sharing(cache)
    key = flight_key(ANN, leader.digest)
    await cache._flights.finish(key, LeaseId.parse(leader.result.lease_id), b"end")
    assert not (await sharing(cache)).result.leads
    assert (await sharing(cache, max_age_s=0.5)).result.leads
