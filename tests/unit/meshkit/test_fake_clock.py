import asyncio

from meshkit.testing import FakeClock


async def test_sleepers_wake_in_order_at_their_own_moment():
    clock, woken = FakeClock(now=0.0), []

    async def sleeper(name, seconds):
        await clock.sleep(seconds)
        woken.append((name, clock.now()))

    async with asyncio.TaskGroup() as tasks:
        for name, seconds in (("c", 3), ("a", 1), ("b", 2), ("b2", 2)):
            tasks.create_task(sleeper(name, seconds))
        await clock.advance(2.5)
        assert woken == [("a", 1), ("b", 2), ("b2", 2)]
        assert clock.now() == 2.5
        await clock.advance(0.5)
    assert woken[-1] == ("c", 3)


async def test_a_sleeper_that_sleeps_again_wakes_in_the_same_advance():
    clock = FakeClock(now=0.0)
    beats: list[float] = []

    async def beat():
        while len(beats) < 3:
            await clock.sleep(1)
            beats.append(clock.now())

    task = asyncio.create_task(beat())
    await clock.advance(10)
    await asyncio.wait_for(task, 1)
    assert beats == [1, 2, 3]


async def test_a_cancelled_sleeper_harms_nobody():
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    await asyncio.sleep(0)
    task.cancel()
    await clock.advance(2)
    assert task.cancelled()


async def test_no_time_to_sleep_returns_at_once_and_wall_time_moves_along():
    clock = FakeClock(wall=100.0)
    await asyncio.wait_for(clock.sleep(0), 1)
    await asyncio.wait_for(clock.sleep(-1), 1)
    await clock.advance(5)
    assert clock.wall() == 105.0
