"""Who comes in, who waits, who is refused."""

from __future__ import annotations

import asyncio

import pytest

from meshkit.errors import DeadlineExceeded, NotReady, Overloaded
from services.router.admission import Admission


def admission(**changes: float) -> Admission:
    values = {"max_active": 1, "max_waiting": 4, "max_wait_s": 5.0, **changes}
    return Admission(**values)  # type: ignore[arg-type]


async def hold(door: Admission, release: asyncio.Event, log: list[str], name: str, priority: int = 0) -> None:
    async with door.place(priority=priority, timeout_s=5):
        log.append(name)
        await release.wait()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_higher_priority_goes_first_and_equals_go_in_order() -> None:
    door, release, log = admission(), asyncio.Event(), []  # type: ignore[var-annotated]
    tasks = [asyncio.create_task(hold(door, release, log, "running"))]
    await settled()
    for name, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
        tasks.append(asyncio.create_task(hold(door, release, log, name, priority)))
    await settled()
    release.set()
    await asyncio.gather(*tasks)
    assert log == ["running", "high", "first", "second", "low"]
    assert door.active_count == 0 and door.waiting_count == 0


async def test_a_cancelled_waiter_leaves_no_trace() -> None:
    door, release, log = admission(), asyncio.Event(), []  # type: ignore[var-annotated]
    running = asyncio.create_task(hold(door, release, log, "running"))
    await settled()
    waiting = asyncio.create_task(hold(door, release, log, "waiting"))
    await settled()
    waiting.cancel()
    await asyncio.wait({waiting})
    assert door.waiting_count == 0
    release.set()
    await running
    assert door.active_count == 0


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_hands_the_place_on() -> None:
    door, release, log = admission(), asyncio.Event(), []  # type: ignore[var-annotated]
    running = asyncio.create_task(hold(door, release, log, "running"))
    await settled()
    waiting = asyncio.create_task(hold(door, release, log, "waiting"))
    await settled()
    release.set()
    await asyncio.sleep(0)
    await running
    waiting.cancel()
    await asyncio.wait({waiting})
    assert door.active_count == 0


async def test_waiting_ends_with_the_callers_deadline_or_the_routers_patience() -> None:
    door, release, log = admission(max_wait_s=0.01), asyncio.Event(), []  # type: ignore[var-annotated]
    running = asyncio.create_task(hold(door, release, log, "running"))
    await settled()
    with pytest.raises(Overloaded):
        async with door.place(priority=0, timeout_s=1):
            pass
    with pytest.raises(DeadlineExceeded):
        async with door.place(priority=0, timeout_s=0.001):
            pass
    release.set()
    await running
    assert door.active_count == 0


async def test_a_closed_door_takes_nobody() -> None:
    door = admission()
    door.close()
    with pytest.raises(NotReady):
        async with door.place(priority=0, timeout_s=1):
            pass


async def test_waiters_that_gave_up_are_not_kept() -> None:
    door, release, log = admission(max_waiting=2), asyncio.Event(), []  # type: ignore[var-annotated]
    running = asyncio.create_task(hold(door, release, log, "running"))
    await settled()
    for _ in range(50):
        waiting = asyncio.create_task(hold(door, release, log, "waiting"))
        await settled()
        waiting.cancel()
        await asyncio.wait({waiting})
    assert len(door._queue) <= 2 * 2
    release.set()
    await running
    assert (door.active_count, door.waiting_count) == (0, 0)
