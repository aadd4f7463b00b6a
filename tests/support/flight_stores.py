"""What every place of flights must do, as one suite."""

from __future__ import annotations

import pytest

from meshkit.clock import Clock
from services.cache.flight import FlightStore, FlightTimes, Lease, LostLease, Phase
from services.cache.memory_flights import MemoryFlights
from services.cache.single_flight import SingleFlight

TIMES = FlightTimes(ttl_s=2.0, linger_s=2.0, keep_s=20.0)
KEY, OTHER_KEY = b"a key", b"another key"


def own_flights(clock: Clock) -> SingleFlight:
    """Flights of one process alone."""
    times = FlightTimes()
    local = MemoryFlights(times, clock, max_bytes=1_000_000)
    return SingleFlight(shared=None, local=local, times=times, clock=clock, poll_s=0.01)


class FlightStoreSuite:
    """Subclass with fixtures `store` (with TIMES) and `pass_time` (an async callable of seconds)."""

    async def test_the_first_leads_and_the_next_follows_the_same_flight(self, store: FlightStore):
        first = await store.join(KEY, follows_finished=True)
        second = await store.join(KEY, follows_finished=True)
        assert first.leads and not second.leads
        assert second.lease == first.lease

    async def test_flights_of_different_keys_have_nothing_in_common(self, store: FlightStore):
        first = await store.join(KEY, follows_finished=True)
        other = await store.join(OTHER_KEY, follows_finished=True)
        assert other.leads
        assert (await store.read(OTHER_KEY, first.lease.flight, 0)).phase is Phase.GONE

    async def test_a_reader_sees_what_was_appended_from_where_it_wants(self, store: FlightStore):
        lease = (await store.join(KEY, follows_finished=True)).lease
        await store.append(KEY, lease, 0, (b"a", b"\x00b"))
        await store.append(KEY, lease, 2, (b"c",))
        assert (await store.read(KEY, lease.flight, 0)).events == (b"a", b"\x00b", b"c")
        page = await store.read(KEY, lease.flight, 2)
        assert (page.phase, page.events) == (Phase.LED, (b"c",))

    async def test_events_that_are_sent_again_are_not_there_twice(self, store: FlightStore):
        lease = (await store.join(KEY, follows_finished=True)).lease
        await store.append(KEY, lease, 0, (b"a", b"b"))
        await store.append(KEY, lease, 0, (b"a", b"b", b"c"))
        assert (await store.read(KEY, lease.flight, 0)).events == (b"a", b"b", b"c")

    async def test_a_gap_is_refused(self, store: FlightStore):
        lease = (await store.join(KEY, follows_finished=True)).lease
        with pytest.raises(LostLease):
            await store.append(KEY, lease, 1, (b"b",))

    async def test_a_leader_learns_that_somebody_follows(self, store: FlightStore):
        lease = (await store.join(KEY, follows_finished=True)).lease
        assert not await store.append(KEY, lease, 0, ())
        await store.join(KEY, follows_finished=True)
        assert await store.append(KEY, lease, 0, ())

    async def test_a_finished_flight_can_be_followed_for_a_moment_and_then_another_leads(
        self, store: FlightStore, pass_time
    ):
        lease = (await store.join(KEY, follows_finished=True)).lease
        await store.append(KEY, lease, 0, (b"a",))
        await store.finish(KEY, lease, b"end")
        late = await store.join(KEY, follows_finished=True)
        assert not late.leads
        page = await store.read(KEY, late.lease.flight, 0)
        assert (page.phase, page.events, page.final) == (Phase.FINISHED, (b"a",), b"end")
        await pass_time(TIMES.linger_s + 0.5)
        assert (await store.join(KEY, follows_finished=True)).leads

    async def test_who_wants_a_new_answer_does_not_follow_a_finished_one(self, store: FlightStore):
        lease = (await store.join(KEY, follows_finished=False)).lease
        assert not (await store.join(KEY, follows_finished=False)).leads
        await store.finish(KEY, lease, b"end")
        assert (await store.join(KEY, follows_finished=False)).leads

    async def test_a_finished_flight_takes_nothing_more(self, store: FlightStore):
        lease = (await store.join(KEY, follows_finished=True)).lease
        await store.finish(KEY, lease, b"end")
        with pytest.raises(LostLease):
            await store.append(KEY, lease, 0, (b"a",))
        with pytest.raises(LostLease):
            await store.finish(KEY, lease, b"other end")

    async def test_a_leader_that_is_silent_for_its_time_can_be_replaced_once(self, store: FlightStore, pass_time):
        lease = (await store.join(KEY, follows_finished=True)).lease
        await store.append(KEY, lease, 0, (b"a",))
        await store.join(KEY, follows_finished=True)
        assert await store.take_over(KEY, lease) is None
        await pass_time(TIMES.ttl_s + 0.5)
        assert (await store.read(KEY, lease.flight, 0)).phase is Phase.VACANT
        winner = await store.take_over(KEY, lease)
        assert winner == Lease(flight=lease.flight, term=lease.term + 1)
        assert await store.take_over(KEY, lease) is None
        assert (await store.read(KEY, lease.flight, 0)).phase is Phase.LED

    async def test_a_leader_that_was_replaced_appends_and_ends_nothing(self, store: FlightStore):
        lease = (await store.join(KEY, follows_finished=True)).lease
        await store.append(KEY, lease, 0, (b"a",))
        await store.join(KEY, follows_finished=True)
        await store.release(KEY, lease)
        winner = await store.take_over(KEY, lease)
        assert winner is not None
        for lost in (store.append(KEY, lease, 1, (b"x",)), store.finish(KEY, lease, b"x")):
            with pytest.raises(LostLease):
                await lost
        await store.release(KEY, lease)
        await store.append(KEY, winner, 1, (b"b",))
        page = await store.read(KEY, lease.flight, 0)
        assert (page.phase, page.events) == (Phase.LED, (b"a", b"b"))

    async def test_one_of_many_that_claim_a_flight_leads_it(self, store: FlightStore):
        lease = await store.claim(KEY)
        assert lease is not None
        assert await store.claim(KEY) is None
        assert not await store.append(KEY, lease, 0, (b"a",)), "who claims in vain does not follow"
        assert not (await store.join(KEY, follows_finished=True)).leads
        await store.finish(KEY, lease, b"end")
        assert await store.claim(KEY) is None

    async def test_a_claim_that_was_given_back_or_not_kept_can_be_made_again(self, store: FlightStore, pass_time):
        first = await store.claim(KEY)
        assert first is not None
        await store.release(KEY, first)
        second = await store.claim(KEY)
        assert second is not None and second.flight != first.flight
        await pass_time(TIMES.ttl_s + 0.5)
        assert await store.claim(KEY) is not None

    async def test_a_flight_that_waits_for_a_follower_to_take_over_is_not_claimed(self, store: FlightStore):
        lease = (await store.join(KEY, follows_finished=True)).lease
        await store.join(KEY, follows_finished=True)
        await store.release(KEY, lease)
        assert await store.claim(KEY) is None

    async def test_a_lease_that_nobody_waits_for_leaves_nothing_when_it_is_given_back(self, store: FlightStore):
        lease = (await store.join(KEY, follows_finished=True)).lease
        await store.release(KEY, lease)
        assert (await store.read(KEY, lease.flight, 0)).phase is Phase.GONE
        assert (await store.join(KEY, follows_finished=True)).leads

    async def test_a_leader_that_vanished_unfollowed_is_no_obstacle(self, store: FlightStore, pass_time):
        lost = await store.join(KEY, follows_finished=True)
        await pass_time(TIMES.ttl_s + 0.5)
        after = await store.join(KEY, follows_finished=True)
        assert after.leads and after.lease.flight != lost.lease.flight
