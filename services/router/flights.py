"""Where an answer comes from: this request's own engine, or another request that asks the same at the same time.

A leader's pieces are told to the cache as they come. A follower gets its pieces from there; if the leader goes away
one follower leads, makes the answer again, and goes on behind the last piece that all have, so no caller sees a gap
or a piece twice. Where the flight itself is gone, as when its server was emptied, followers look up once more, so that
one of them generates for all; a follower whose cache can't tell goes on alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from meshkit.clock import Clock
from meshkit.coalescing import Piece
from meshkit.errors import MeshError
from services.router.attempts import Attempts, Job, SourcedEvent
from services.router.events import Answer
from services.router.following import Following
from services.router.observer import Observer
from services.router.ports import Cache, EngineFinished, EngineStarted, Found, Landed, Lease
from services.router.publication import Publication
from services.router.resuming import SentAnswer, resumed

Prepare = Callable[[], Awaitable[None]]


class Flights:
    """Gives each job its source of events. `cache` None: always its own engine."""

    def __init__(self, *, cache: Cache | None, attempts: Attempts, observer: Observer, clock: Clock) -> None:
        self._following = Following(cache) if cache else None
        self._attempts = attempts
        self._observer = observer
        self._clock = clock

    def events(self, job: Job, found: Found | None, prepare: Prepare) -> AsyncGenerator[SourcedEvent, None]:
        """What the relay reads. `prepare` is awaited before a follower generates after all."""
        if self._following is not None and found is not None:
            if found.lead is not None:
                return self._led(self._following.cache, job, found.lead, 0, self._attempts.events(job))
            if found.follow is not None:
                return self._followed(self._following, job, found.follow, prepare)
        return self._attempts.events(job)

    async def _led(
        self, cache: Cache, job: Job, lease: Lease, first: int, source: AsyncGenerator[SourcedEvent, None]
    ) -> AsyncGenerator[SourcedEvent, None]:
        """The publication outlives the events: whoever ends the request commits or abandons it."""
        job.publication = publication = Publication(cache, lease, first=first, clock=self._clock)
        async with contextlib.aclosing(source):
            async for holder, event in source:
                if isinstance(event, Piece):
                    publication.put(event)
                yield holder, event

    async def _followed(
        self, following: Following, job: Job, lease: Lease, prepare: Prepare
    ) -> AsyncGenerator[SourcedEvent, None]:
        yield "", EngineStarted(prompt_tokens=0, revision=",".join(job.model.revisions))
        source = self._followed_on(following, job, lease, prepare)
        async with contextlib.aclosing(source):
            async for sourced in source:
                yield sourced

    async def _followed_on(
        self, following: Following, job: Job, lease: Lease, prepare: Prepare, *, asks_again: bool = True
    ) -> AsyncGenerator[SourcedEvent, None]:
        job.is_following = True
        follower = _Follower(following, lease, self._observer)
        async with contextlib.aclosing(follower.pieces()) as pieces:
            async for piece in pieces:
                yield "", piece
        if follower.landed is not None:
            job.followed_cost_micro_usd = follower.landed.cost_micro_usd
            yield "", EngineFinished(finish_reason=follower.landed.finish_reason, usage=follower.landed.usage)
            return
        found = None
        if asks_again and follower.new_lease is None:
            found = await self._found_again(following.cache, job, lease)
        source = await self._gone_on(following, job, follower, found, prepare)
        async with contextlib.aclosing(source):
            async for sourced in source:
                yield sourced

    async def _found_again(self, cache: Cache, job: Job, lost: Lease) -> Found | None:
        """None where that is no help: the cache does not answer, or names the flight that can't be read."""
        try:
            found = await cache.look_up(job.question, job.model, lost=lost)
        except MeshError as error:
            self._observer.passed_over("cache", error.reason)
            return None
        return None if found.follow == lost else found

    async def _gone_on(
        self, following: Following, job: Job, follower: _Follower, found: Found | None, prepare: Prepare
    ) -> AsyncGenerator[SourcedEvent, None]:
        """The rest of an answer whose flight ended under its follower."""
        if found is not None and found.answer is not None:
            return resumed(_stored(job, found.answer), follower.sent)
        if found is not None and found.follow is not None:
            return resumed(self._followed_on(following, job, found.follow, prepare, asks_again=False), follower.sent)
        job.is_following = False
        await prepare()
        source = self._attempts.events(job)
        if found is not None and found.lead is not None:
            return resumed(self._led(following.cache, job, found.lead, 0, source), follower.sent)
        source = resumed(source, follower.sent)
        if follower.new_lease is not None:
            source = self._led(following.cache, job, follower.new_lease, follower.received_count, source)
        return source


async def _stored(job: Job, answer: Answer) -> AsyncGenerator[SourcedEvent, None]:
    """An answer that was stored meanwhile, at once."""
    for _, piece in answer.pieces:
        yield "", piece
    job.followed_cost_micro_usd = answer.cost_micro_usd
    yield "", EngineFinished(finish_reason=answer.finish_reason, usage=answer.usage)


class _Follower:
    """One request's reading of another's answer, and how that ended: landed, with the lead, or with neither."""

    def __init__(self, following: Following, lease: Lease, observer: Observer) -> None:
        self.sent = SentAnswer()
        self.received_count = 0
        self.landed: Landed | None = None
        self.new_lease: Lease | None = None
        self._following = following
        self._lease = lease
        self._observer = observer

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """The answer's pieces."""
        try:
            async with contextlib.aclosing(self._following.events(self._lease)) as events:
                async for event in events:
                    if isinstance(event, Piece):
                        self.received_count += 1
                        self.sent.add(event)
                        yield event
                    elif isinstance(event, Landed):
                        self.landed = event
                    else:
                        self.new_lease = event.lease
        except MeshError as error:
            self._observer.passed_over("cache", error.reason)
