"""Answers on their way into the cache: never on the caller's path, bounded in number and in time."""

from __future__ import annotations

import asyncio

from meshkit.errors import MeshError
from services.router.events import Answer
from services.router.observer import Observer
from services.router.ports import Cache

_MAX_UNDER_WAY = 256


class Commits:
    """Commits under way. A commit that can't be made is dropped and told to the observer."""

    def __init__(self, cache: Cache | None, observer: Observer, *, grace_s: float) -> None:
        self._cache = cache
        self._observer = observer
        self._grace_s = grace_s
        self._under_way: set[asyncio.Task[None]] = set()

    def start(self, digest: bytes, answer: Answer, ttl_s: float | None) -> asyncio.Task[None] | None:
        """Begin to store an answer; None where there is no cache, or too much is under way."""
        if self._cache is None:
            return None
        if len(self._under_way) >= _MAX_UNDER_WAY:
            self._observer.commit_failed("too many commits under way")
            return None
        task = asyncio.create_task(self._commit(self._cache, digest, answer, ttl_s))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def settle(self, commit: asyncio.Task[None]) -> None:
        """Wait a moment for a commit, so that the same question asked next finds its answer."""
        await asyncio.wait({commit}, timeout=self._grace_s)

    async def drain(self) -> None:
        """Return when nothing is under way any more."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _commit(self, cache: Cache, digest: bytes, answer: Answer, ttl_s: float | None) -> None:
        try:
            await cache.commit(digest, answer, ttl_s)
        except MeshError as error:
            self._observer.commit_failed(error.reason)
