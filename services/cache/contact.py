"""How far entries may be believed while nothing is heard from the other instances.

Rules of others arrive by asking a shared memory again and again. As long as it answers, every rule is obeyed within
`bound_s`. When it stops answering, entries are believed for `grace_s` more, and then none is: a miss costs a
generation, a wrong answer costs trust. Only asking that failed counts as silence. An instance that has not asked for
too long (it was frozen, or has just started) waits for its own next question instead.
"""

from __future__ import annotations

import asyncio

from meshkit.clock import Clock
from services.cache.entry import Entry

_FAILURES_OF_SILENCE = 2
"""One failure can be this instance's own: it was frozen in the middle of a call."""


class Contact:
    """When the shared memory last told all it knew. Times of the clock are monotonic, except `wall`."""

    def __init__(self, clock: Clock, *, bound_s: float, grace_s: float) -> None:
        self._clock = clock
        self._bound_s = bound_s
        self._grace_s = grace_s
        self._started_at = clock.now()
        self._started_wall = clock.wall()
        self._heard_at = float("-inf")
        self._failure_count = 0
        self._has_heard = False
        self._turn = asyncio.Event()

    @property
    def is_silent(self) -> bool:
        """Whether the shared memory was asked and did not answer. At the start it takes a moment to connect."""
        is_starting = not self._has_heard and self._clock.now() - self._started_at <= self._bound_s
        return self._failure_count >= _FAILURES_OF_SILENCE and not is_starting

    @property
    def should_ask_at_once(self) -> bool:
        """Whether the last failure may be this instance's own."""
        return 0 < self._failure_count < _FAILURES_OF_SILENCE

    @property
    def heard_wall(self) -> float:
        """When it last answered, in Unix seconds; for the next process."""
        return self._clock.wall() - (self._clock.now() - self._heard_at)

    def resume(self, heard_wall: float) -> None:
        """Go on from the contact that an earlier process had."""
        silent_s = max(0.0, self._clock.wall() - heard_wall)
        self._heard_at = max(self._heard_at, self._clock.now() - silent_s)

    def heard(self, asked_at: float) -> None:
        """Everything that was known at `asked_at` has been told."""
        self._heard_at = max(self._heard_at, asked_at)
        self._failure_count = 0
        self._has_heard = True
        self._next_turn()

    def failed(self) -> None:
        """It was asked and did not answer in time."""
        self._failure_count += 1
        self._next_turn()

    async def settle(self) -> None:
        """Return once this instance knows what it can know: at once, unless it has not asked for too long."""
        if self._is_late:
            try:
                async with asyncio.timeout(self._bound_s):
                    while self._is_late:
                        await self._turn.wait()
            except TimeoutError:
                self._failure_count = max(self._failure_count, _FAILURES_OF_SILENCE)

    def believes(self, entry: Entry) -> bool:
        """Whether an entry may be served although a rule about it may have gone unheard."""
        heard_at = self._heard_at
        if entry.stored_at >= self._started_wall:
            heard_at = max(heard_at, self._started_at)
        return self._clock.now() - heard_at <= self._grace_s

    @property
    def _is_late(self) -> bool:
        return not self.is_silent and self._clock.now() - self._heard_at > self._bound_s

    def _next_turn(self) -> None:
        self._turn.set()
        self._turn = asyncio.Event()
