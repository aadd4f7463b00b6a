"""When a tier is passed over: after so many failures in a row, until a probe off the request's path has succeeded.

Requests never test a tier that is down, so a frozen server costs a few time-outs and then nothing, and its return
meets one probe instead of a herd.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from meshkit.clock import Clock
from services.cache.settings import FarTierSettings


class Breaker:
    """Open means: do not ask. It starts open, so that a service starts without waiting for the tier."""

    def __init__(self, *, failure_limit: int) -> None:
        self._failure_limit = failure_limit
        self._failure_count = 0
        self._opened = asyncio.Event()
        self._opened.set()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    def succeeded(self) -> None:
        """A call was answered in time."""
        self._failure_count = 0

    def failed(self) -> None:
        """A call failed or came too late."""
        self._failure_count += 1
        if self._failure_count >= self._failure_limit:
            self._opened.set()

    def trip(self) -> None:
        """One failure was enough."""
        self._opened.set()

    def close(self) -> None:
        """A probe was answered: ask again."""
        self._failure_count = 0
        self._opened.clear()

    async def opened(self) -> None:
        """Return as soon as it is open."""
        await self._opened.wait()


async def keep_probing(
    breaker: Breaker,
    probe: Callable[[], Awaitable[bool]],
    *,
    clock: Clock,
    settings: FarTierSettings,
) -> None:
    """Close the breaker whenever a probe succeeds; rests double between failed probes. Runs until cancelled."""
    while True:
        await breaker.opened()
        rest_s = settings.first_rest_s
        while not await probe():
            await clock.sleep(rest_s)
            rest_s = min(rest_s * 2, settings.longest_rest_s)
        breaker.close()
