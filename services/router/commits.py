"""Answers on their way into the cache: never on the caller's path, bounded in number and in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine

from meshkit.errors import MeshError
from services.router.events import Answer
from services.router.observer import Observer
from services.router.ports import Cache, Lease, Placement, PromptBlocks
from services.router.publication import Publication

_MAX_UNDER_WAY = 256


class Commits:
    """Commits under way. A commit that can't be made is dropped and told to the observer."""

    def __init__(self, cache: Cache | None, observer: Observer, *, grace_s: float) -> None:
        self._cache = cache
        self._observer = observer
        self._grace_s = grace_s
        self._under_way: set[asyncio.Task[None]] = set()

    def start(
        self, digest: bytes, answer: Answer, ttl_s: float | None, publication: Publication | None = None
    ) -> asyncio.Task[None] | None:
        """Begin to store an answer; None where there is no cache, or too much is under way."""
        if self._cache is None:
            return None
        if len(self._under_way) >= _MAX_UNDER_WAY:
            self._observer.commit_failed("too many commits under way")
            return None
        return self._begin(self._commit(self._cache, digest, answer, ttl_s, publication))

    def abandon(self, publication: Publication) -> None:
        """Begin to give a lease back, for an answer that is not to be stored."""
        self._begin(self._abandon(publication))

    def give_back(self, lease: Lease) -> None:
        """Begin to give a lease back that nothing was generated under."""
        if self._cache is not None and len(self._under_way) < _MAX_UNDER_WAY:
            self._begin(self._give_back(self._cache, lease))

    def note_prefix(self, placement: Placement | None, blocks: PromptBlocks | None) -> None:
        """Begin to tell the cache what a prompt is made of, where it asked and an engine said so."""
        if self._cache is not None and placement and blocks and len(self._under_way) < _MAX_UNDER_WAY:
            self._begin(self._note_prefix(self._cache, placement.marks, blocks))

    async def settle(self, commit: asyncio.Task[None]) -> None:
        """Wait a moment for a commit, so that the same question asked next finds its answer."""
        await asyncio.wait({commit}, timeout=self._grace_s)

    async def drain(self) -> None:
        """Return when nothing is under way any more."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _commit(
        self, cache: Cache, digest: bytes, answer: Answer, ttl_s: float | None, publication: Publication | None
    ) -> None:
        """Followers get the last pieces before they hear that the answer is whole."""
        if publication is not None:
            await publication.close()
        try:
            await cache.commit(digest, answer, ttl_s, publication.lease if publication else None)
        except MeshError as error:
            self._observer.commit_failed(error.reason)

    async def _give_back(self, cache: Cache, lease: Lease) -> None:
        with contextlib.suppress(MeshError):
            await cache.abandon(lease)

    async def _note_prefix(self, cache: Cache, marks: bytes, blocks: PromptBlocks) -> None:
        with contextlib.suppress(MeshError):
            await cache.note_prefix(marks, blocks)

    async def _abandon(self, publication: Publication) -> None:
        """A lease that can't be given back ends by itself."""
        with contextlib.suppress(MeshError):
            await publication.abandon()
