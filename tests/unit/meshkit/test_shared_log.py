"""Many readers of one log: each gets every entry once, and of an offer exactly one."""

from __future__ import annotations

import asyncio

import pytest

from meshkit.shared_log import SharedLog

PATIENCE_S = 10.0


async def read(log: SharedLog[str], first: int = 0) -> list[str]:
    return [entry async for entry in log.read(first)]


async def test_every_reader_gets_what_was_there_and_what_comes_once() -> None:
    log: SharedLog[str] = SharedLog()
    log.extend("ab")
    readers = [asyncio.create_task(read(log, first)) for first in (0, 1, 2)]
    await asyncio.sleep(0)
    log.extend("c")
    log.end()
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*readers) == [["a", "b", "c"], ["b", "c"], ["c"]]


async def test_an_offer_goes_to_one_reader_behind_all_entries_and_the_others_read_on() -> None:
    log: SharedLog[str] = SharedLog()
    readers = [asyncio.create_task(read(log)) for _ in range(3)]
    await asyncio.sleep(0)
    log.extend("a")
    log.offer("lead")
    await asyncio.sleep(0)
    log.extend("b")
    log.end()
    async with asyncio.timeout(PATIENCE_S):
        assert sorted(await asyncio.gather(*readers)) == [["a", "b"], ["a", "b"], ["a", "lead"]]
    assert len(log) == 2


async def test_an_offer_waits_for_a_reader() -> None:
    log: SharedLog[str] = SharedLog()
    log.offer("lead")
    async with asyncio.timeout(PATIENCE_S):
        assert await read(log) == ["lead"]


async def test_a_failure_comes_behind_the_last_entry() -> None:
    log: SharedLog[str] = SharedLog()
    log.extend("a")
    log.end(LookupError("gone"))
    entries = log.read()
    assert await anext(entries) == "a"
    with pytest.raises(LookupError):
        await anext(entries)
