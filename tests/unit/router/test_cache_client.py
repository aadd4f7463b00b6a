"""Whose fault a late look-up is: the cache's, which then rests, or this process's own, which then asks again."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.cache.v1 import cache_service_pb2
from mesh.router.v1 import router_service_pb2
from meshkit.channels import ChannelPool
from meshkit.errors import BackendDown, DeadlineExceeded
from meshkit.picker import Picker
from meshkit.registry.base import InstanceSet
from meshkit.testing.clock import FakeClock
from services.router.cache_client import CacheClient
from services.router.catalogue import Catalogue
from services.router.ports import Found
from tests.unit.router.fakes import instance, question

TIMEOUT_S = 0.25
SAID = cache_service_pb2.LookupResponse(digest=b"digest")


class LateCalls:
    """Each call ends when its time is over, and is heard of so many seconds later; None: it is answered at once."""

    def __init__(self, clock: FakeClock, *heard_late_s: float | None) -> None:
        self._clock = clock
        self._heard_late_s = list(heard_late_s)

    async def unary(self, method: Any, message: Any, *, timeout_s: float, peer: str) -> Any:
        late_s = self._heard_late_s.pop(0)
        if late_s is None:
            return SAID
        await self._clock.advance(timeout_s + late_s)
        raise DeadlineExceeded("no reply in time")


def a_client(calls: Any, clock: FakeClock, *names: str) -> CacheClient:
    caches = InstanceSet("mesh-cache")
    caches.replace(tuple(map(instance, names or ("cache",))))
    return CacheClient(
        picker=Picker(caches, clock),
        channels=ChannelPool(),
        calls=calls,
        lookup_timeout_s=TIMEOUT_S,
        commit_timeout_s=TIMEOUT_S,
        compressor=InstanceSet("mesh-compressor"),
        clock=clock,
    )


async def asked(client: CacheClient, **options: Any) -> Found:
    request = router_service_pb2.GenerateRequest(prompt={"text": "Hello"})
    model = Catalogue({}).choose((instance("a"),))
    return await client.look_up(question(payload=request), model, **options)


async def look_up(*heard_late_s: float | None) -> Found:
    clock = FakeClock()
    return await asked(a_client(LateCalls(clock, *heard_late_s), clock))


async def test_a_look_up_whose_end_a_busy_process_heard_of_late_is_made_again() -> None:
    found = await look_up(0.3, 0.3, None)
    assert found.digest == b"digest"


async def test_a_process_that_stays_too_busy_gives_up_after_three() -> None:
    with pytest.raises(DeadlineExceeded):
        await look_up(0.3, 0.3, 0.3, None)


async def test_a_cache_that_does_not_answer_in_time_is_asked_once_and_rests() -> None:
    with pytest.raises(DeadlineExceeded):
        await look_up(0.0, None)


class Flights:
    """Each look-up may follow another flight."""

    def __init__(self) -> None:
        self.count = 0

    async def unary(self, method: Any, message: Any, *, timeout_s: float, peer: str) -> Any:
        self.count += 1
        return cache_service_pb2.LookupResponse(digest=b"digest", follow={"lease_id": f"flight {self.count}"})


async def test_a_flight_that_was_just_told_is_told_again_without_a_question_unless_it_is_gone() -> None:
    calls = Flights()
    client = a_client(calls, FakeClock())
    first = await asked(client)
    assert first.follow is not None
    assert await asked(client) == first and calls.count == 1
    again = await asked(client, lost=first.follow)
    assert again.follow is not None and again.follow != first.follow
    assert await asked(client, lost=first.follow) == again and calls.count == 2


class DeadOnes:
    """Instances that are registered and gone, and one that answers."""

    def __init__(self, *dead: str) -> None:
        self.dead = dead
        self.asked: list[str] = []

    async def unary(self, method: Any, message: Any, *, timeout_s: float, peer: str) -> Any:
        self.asked.append(peer)
        if peer in self.dead:
            raise BackendDown(f"{peer} can't be reached")
        return SAID


async def test_an_instance_that_is_dead_and_still_registered_costs_no_hit() -> None:
    calls = DeadOnes("dead")
    client = a_client(calls, FakeClock(), "dead", "alive")
    found = [await asked(client) for _ in range(4)]
    assert {one.digest for one in found} == {b"digest"}
    assert calls.asked.count("dead") == 1, "then it rests"


async def test_where_all_are_dead_each_is_asked_once() -> None:
    calls = DeadOnes("one", "other")
    with pytest.raises(BackendDown):
        await asked(a_client(calls, FakeClock(), "one", "other"))
    assert sorted(calls.asked) == ["one", "other"]
