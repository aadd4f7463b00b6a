"""The requests that run here: found by id to be aborted, counted to be drained."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from meshkit.errors import Conflict, NotReady
from services.inference.generation import Generation


class RunningRequests:
    """A table of generations. Once draining it takes no new one."""

    def __init__(self) -> None:
        self._on_drain: list[Callable[[], None]] = []
        self._generations: dict[str, Generation] = {}
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._has_left = asyncio.Event()
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._generations)

    def on_drain(self, listener: Callable[[], None]) -> None:
        """Call `listener` when a drain begins."""
        self._on_drain.append(listener)

    def require_open(self) -> None:
        """Raise NotReady while draining."""
        if self.is_draining:
            raise NotReady("this instance is draining")

    @contextlib.contextmanager
    def entered(self, generation: Generation) -> Iterator[None]:
        """Hold a generation while it runs; raises Conflict if its id runs already."""
        self.require_open()
        request_id = generation.request.request_id
        if request_id in self._generations:
            raise Conflict(f"a request with id {request_id!r} runs here already")
        self._generations[request_id] = generation
        self._is_empty.clear()
        try:
            yield
        finally:
            del self._generations[request_id]
            if not self._generations:
                self._is_empty.set()

    def abort(self, request_id: str) -> bool:
        """Cancel one by its id; False where it doesn't run here."""
        generation = self._generations.get(request_id)
        if generation is not None:
            generation.cancel()
        return generation is not None

    async def drain(self, timeout_s: float | None = None) -> int:
        """Take nothing new and wait; after `timeout_s` give up what still runs. Returns how many were given up."""
        self._begin_drain()
        given_up: list[Generation] = []
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_empty.wait()
        except TimeoutError:
            given_up = list(self._generations.values())
            for generation in given_up:
                generation.give_up(NotReady("this instance is draining and its patience is over"))
            await self._is_empty.wait()
        return len(given_up)

    @property
    def has_left(self) -> bool:
        """Whether this instance is about to end and nothing runs here any more."""
        return self._has_left.is_set()

    async def leave(self) -> None:
        """Drain for good: watchers need not wait for more."""
        await self.drain()
        self._has_left.set()

    async def left(self) -> None:
        """Return when this instance `has_left`."""
        await self._has_left.wait()

    def _begin_drain(self) -> None:
        if not self.is_draining:
            self.is_draining = True
            for listener in self._on_drain:
                listener()
