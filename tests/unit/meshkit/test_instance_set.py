import asyncio

from meshkit.registry import Instance, InstanceSet

A, B = (Instance(id=name, service="s", address=f"{name}:1") for name in "ab")


async def test_a_sudden_empty_answer_keeps_the_last_known_instances_as_stale():
    known = InstanceSet("s")
    known.replace((A, B))
    known.replace(())
    assert (known.current, known.is_stale) == ((A, B), True)
    known.replace((B,))
    assert (known.current, known.is_stale) == ((B,), False)


async def test_an_empty_answer_about_a_service_never_seen_is_believed():
    known = InstanceSet("s")
    known.mark_stale()
    known.replace(())
    assert (known.current, known.is_stale) == ((), False)


async def test_everyone_who_waits_is_woken_by_a_change_and_by_nothing_else():
    known = InstanceSet("s")
    known.replace((A,))
    waiting = [asyncio.create_task(known.changed()) for _ in range(3)]
    await asyncio.sleep(0)
    known.replace((A,))
    known.mark_stale()
    known.replace(())
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    known.replace((A, B))
    await asyncio.wait_for(asyncio.gather(*waiting), 1)


async def test_the_first_instance_is_awaited():
    known = InstanceSet("s")
    waiting = asyncio.create_task(known.non_empty())
    await asyncio.sleep(0)
    known.replace((A,))
    assert await asyncio.wait_for(waiting, 1) == (A,)
    assert await known.non_empty() == (A,)


async def test_an_answer_of_the_registry_is_awaited_also_when_it_brings_nothing_new():
    known = InstanceSet("s")
    known.replace((A,))
    await asyncio.wait_for(known.fresh(), 1)
    known.mark_stale()
    waiting = asyncio.create_task(known.fresh())
    known.replace(())
    await asyncio.sleep(0)
    assert not waiting.done()
    known.replace((A,))
    await asyncio.wait_for(waiting, 1)
