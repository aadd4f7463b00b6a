"""Flights in memory, and what a process does with flights: one reader for many followers, takeover, fall-back."""

from __future__ import annotations

import asyncio

import pytest

from meshkit.clock import SystemClock
from meshkit.errors import InvalidRequest
from meshkit.testing.clock import FakeClock
from services.cache.flight import FlightTimes, LostLease
from services.cache.memory_flights import MemoryFlights
from services.cache.single_flight import FlightTicket, Handover, LeaseId, SingleFlight
from services.cache.tier import TierUnavailable
from services.cache.watch_flight import Event, Final, FlightGone
from tests.support.flight_stores import KEY, TIMES, FlightStoreSuite

DIGEST = b"d" * 32
SOON = FlightTimes(ttl_s=0.1, linger_s=1.0, keep_s=5.0)
PATIENCE_S = 10.0


class TestMemoryFlights(FlightStoreSuite):
    @pytest.fixture
    def clock(self):
        return FakeClock()

    @pytest.fixture
    def store(self, clock):
        return MemoryFlights(TIMES, clock, max_bytes=1000)

    @pytest.fixture
    def pass_time(self, clock):
        return clock.advance

    async def test_memory_is_bounded_and_the_flight_that_goes_over_it_ends(self, store):
        lease = (await store.join(KEY, follows_finished=True)).lease
        with pytest.raises(TierUnavailable):
            await store.append(KEY, lease, 0, (b"x" * 1001,))
        with pytest.raises(LostLease):
            await store.append(KEY, lease, 0, (b"x",))

    async def test_old_flights_give_their_memory_back(self, store, clock):
        for _ in range(10):
            lease = (await store.join(KEY, follows_finished=False)).lease
            await store.append(KEY, lease, 0, (b"x" * 900,))
            await store.finish(KEY, lease, b"")
            await clock.advance(TIMES.linger_s + 0.1)


class CountedReads(MemoryFlights):
    """Counts how often the log is read."""

    read_count = 0
    is_down = False

    async def join(self, key, *, follows_finished):
        self._check()
        return await super().join(key, follows_finished=follows_finished)

    async def read(self, key, flight, from_event):
        self._check()
        self.read_count += 1
        return await super().read(key, flight, from_event)

    def _check(self) -> None:
        if self.is_down:
            raise TierUnavailable("down")


def flights_over(shared: MemoryFlights | None) -> SingleFlight:
    local = MemoryFlights(SOON, SystemClock(), max_bytes=10_000)
    return SingleFlight(shared=shared, local=local, times=SOON, clock=SystemClock(), poll_s=0.005)


def shared_place() -> CountedReads:
    return CountedReads(SOON, SystemClock(), max_bytes=10_000)


async def until_read(place: CountedReads, count: int = 1) -> None:
    """Return when the log was read so often again."""
    wanted = place.read_count + count
    async with asyncio.timeout(PATIENCE_S):
        while place.read_count < wanted:
            await asyncio.sleep(0)


async def lead(flights: SingleFlight) -> LeaseId:
    ticket = await flights.join(KEY, DIGEST, follows_finished=True)
    assert ticket.leads
    return LeaseId.parse(ticket.lease_id)


async def followed(flights: SingleFlight, from_event: int = 0) -> list[object]:
    ticket = await flights.join(KEY, DIGEST, follows_finished=True)
    assert isinstance(ticket, FlightTicket) and not ticket.leads
    async with asyncio.timeout(PATIENCE_S):
        return [entry async for entry in flights.follow(KEY, LeaseId.parse(ticket.lease_id), from_event)]


async def test_every_follower_in_every_process_gets_all_events_and_the_end():
    place = shared_place()
    here, there = flights_over(place), flights_over(place)
    lease = await lead(here)
    await here.append(KEY, lease, 0, (b"a", b"b"))
    readers = [asyncio.create_task(followed(flights)) for flights in (here, there) for _ in range(50)]
    await until_read(place, 2)
    reads_before = place.read_count
    await here.append(KEY, lease, 2, (b"c",))
    await here.finish(KEY, lease, b"end")
    for entries in await asyncio.gather(*readers):
        assert entries == [Event(payload=b"a"), Event(payload=b"b"), Event(payload=b"c"), Final(payload=b"end")]
    assert place.read_count - reads_before < 20, "one reader a process, not one a follower"


async def test_exactly_one_follower_takes_over_from_a_silent_leader_and_the_others_see_no_gap_and_nothing_twice():
    place = shared_place()
    here, there = flights_over(place), flights_over(place)
    old = await lead(here)
    await here.append(KEY, old, 0, (b"a",))
    readers = [asyncio.create_task(followed(flights)) for flights in (here, there) for _ in range(20)]
    done, _ = await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
    (winner,) = done
    handover = winner.result()[-1]
    assert isinstance(handover, Handover) and winner.result()[:-1] == [Event(payload=b"a")]
    new = LeaseId.parse(handover.lease_id)
    with pytest.raises(LostLease):
        await here.append(KEY, old, 1, (b"from the dead",))
    await there.append(KEY, new, 1, (b"b",))
    await there.finish(KEY, new, b"end")
    for reader in set(readers) - done:
        async with asyncio.timeout(PATIENCE_S):
            assert await reader == [Event(payload=b"a"), Event(payload=b"b"), Final(payload=b"end")]


async def test_a_follower_that_was_given_the_lead_and_vanished_is_replaced_too():
    flights = flights_over(shared_place())
    await lead(flights)
    first = await followed(flights)
    second = await followed(flights)
    assert isinstance(first[-1], Handover) and isinstance(second[-1], Handover)
    assert first[-1] != second[-1]


async def test_without_the_shared_place_flights_are_the_processs_own():
    place = shared_place()
    flights = flights_over(place)
    place.is_down = True
    lease = await lead(flights)
    reader = asyncio.create_task(followed(flights))
    await flights.append(KEY, lease, 0, (b"a",))
    await flights.finish(KEY, lease, b"end")
    assert (await reader)[-1] == Final(payload=b"end")


async def test_followers_are_told_when_the_shared_place_stays_away():
    place = shared_place()
    flights = flights_over(place)
    await lead(flights)
    reader = asyncio.create_task(followed(flights))
    await until_read(place)
    place.is_down = True
    with pytest.raises(FlightGone):
        await reader


async def test_nobody_follows_and_nothing_reads():
    place = shared_place()
    flights = flights_over(place)
    lease = await lead(flights)
    entries = flights.follow(KEY, lease, 0)
    following = asyncio.create_task(anext(entries))
    await until_read(place)
    following.cancel()
    await asyncio.wait({following})
    await entries.aclose()
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("text", ["", "l", "l.zz.00.1", "x.00.00.1", "l.00.00.one", "l.00.00.1.2"])
def test_what_is_no_lease_is_refused(text):
    with pytest.raises(InvalidRequest) as raised:
        LeaseId.parse(text)
    assert raised.value.field == "lease_id"


def test_a_lease_id_survives_its_text():
    text = "s." + "ab" * 32 + "." + "cd" * 16 + ".3"
    assert str(LeaseId.parse(text)) == text
