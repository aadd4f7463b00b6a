"""Rules of a host that lends its ranks again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from meshkit.testing import FakeClock
from services.inference.node.lending import live_again_and_again


class Lives:
    """Each ends with the next reason; the last one lasts until it is cancelled."""

    def __init__(self, *reasons: str) -> None:
        self._reasons = list(reasons)
        self.lasts = asyncio.Event()

    async def __call__(self) -> str:
        if self._reasons:
            return self._reasons.pop(0)
        self.lasts.set()
        await asyncio.Event().wait()
        raise AssertionError


async def until_stopped(one_life: Callable[[], Awaitable[str]], lasts: asyncio.Event) -> None:
    clock, is_stopping = FakeClock(), asyncio.Event()
    living = asyncio.ensure_future(live_again_and_again(one_life, clock, is_stopping.is_set))
    async with asyncio.timeout(10):
        while not lasts.is_set():
            await asyncio.sleep(0)
            await clock.advance(5.0)
        is_stopping.set()
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)


async def test_a_life_follows_another_and_each_new_reason_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    lives = Lives("no answer", "no answer", "node 0 closed the line")
    await until_stopped(lives, lives.lasts)
    assert [record.__dict__["fields"]["reason"] for record in caplog.records] == ["no answer", "node 0 closed the line"]


async def test_stop_is_heard_even_if_a_life_ends_in_the_same_moment() -> None:
    lasts = asyncio.Event()

    async def ends_when_cancelled() -> str:
        lasts.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "node 0 closed the line"
        raise AssertionError

    await until_stopped(ends_when_cancelled, lasts)
