"""The life of a request: admit, look up and compress, generate or replay, relay, bill, commit.

The first event out is `Accepted`, sent when an engine has taken the request or the cache had it; the last is
`Finished`. A request ends in exactly one of `Finished` and one raised MeshError. Cache and compressor help, they are
never needed: what they can't do in their time is done without them.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator

from meshkit.clock import Clock
from meshkit.coalescing import Piece
from meshkit.errors import MeshError
from meshkit.limits import check_characters, check_fits_context
from meshkit.picker import Picker
from services.router.admission import Admission
from services.router.attempts import Job, cancel_and_wait
from services.router.catalogue import Catalogue, Model
from services.router.commits import Commits
from services.router.events import (
    Accepted,
    CacheStatus,
    Cost,
    Event,
    Finished,
    FinishReason,
    Timings,
    Usage,
    is_storable,
)
from services.router.flights import Flights
from services.router.journal import CancelledByCaller, Journal, Running
from services.router.observer import Observer
from services.router.ports import Cache, Compressed, Compressor, Found
from services.router.pricing import bill, bill_of_hit
from services.router.question import Question
from services.router.regenerations import Regenerations
from services.router.relay import Relay, Taken
from services.router.replay import Replays, accepted_hit


class Answering:
    """Answers questions. `cache` and `compressor` may be absent."""

    def __init__(
        self,
        *,
        admission: Admission,
        catalogue: Catalogue,
        picker: Picker,
        flights: Flights,
        journal: Journal,
        cache: Cache | None,
        compressor: Compressor | None,
        commits: Commits,
        regenerations: Regenerations,
        observer: Observer,
        clock: Clock,
        flush_interval_s: float,
    ) -> None:
        self._admission = admission
        self._catalogue = catalogue
        self._picker = picker
        self._flights = flights
        self._journal = journal
        self._cache = cache
        self._compressor = compressor
        self._commits = commits
        self._regenerations = regenerations
        self._replays = Replays(observer=observer, clock=clock)
        self._observer = observer
        self._clock = clock
        self._flush_interval_s = flush_interval_s

    async def answer(self, question: Question) -> AsyncGenerator[Event, None]:
        """The events of one request. Closing the iterator cancels the work."""
        decision_id = uuid.uuid4().hex
        timings = Timings()
        model = self._choose_model(question, timings)
        with self._journal.entry(question.tenant, decision_id, question.idempotency_key) as running:
            job = Job(decision_id=decision_id, question=question, model=model)
            try:
                async with contextlib.aclosing(self._admitted(job, running, timings)) as events:
                    async for event in events:
                        yield event
            except CancelledByCaller:
                for event in self._cancelled(job, timings):
                    yield event

    async def _admitted(self, job: Job, running: Running, timings: Timings) -> AsyncGenerator[Event, None]:
        """Raises CancelledByCaller where the request is cancelled before an engine was asked."""
        question = job.question
        async with contextlib.AsyncExitStack() as place:
            with running.interruptible():
                waiting = self._admission.place(priority=question.priority, timeout_s=question.timeout_s)
                await place.enter_async_context(waiting)
                timings.admission_s = self._since_arrival(question)
                status, found, job.compressed = await self._prepare(question, job.model, timings)
            if found is not None and found.answer is not None:
                self._regenerate(job, found)
                accepted = accepted_hit(job.decision_id, found.answer, is_stale=found.is_stale)
                events = self._replays.events(question, found.answer, accepted, running, timings)
            else:
                events = self._generate(job, running, status, found, timings)
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event

    def _choose_model(self, question: Question, timings: Timings) -> Model:
        """Before anything waits: nobody queues for a model that does not exist or can't hold the prompt."""
        began_at = self._clock.now()
        known = self._picker.instances.current
        model = self._catalogue.choose(known, model=question.model, tier=question.tier)
        if model.context_tokens:
            check_characters(question.prompt_characters, model.context_tokens)
            check_fits_context(question.prompt_token_count, model.context_tokens)
        timings.route_s = self._clock.now() - began_at
        return model

    async def _prepare(
        self, question: Question, model: Model, timings: Timings
    ) -> tuple[CacheStatus, Found | None, Compressed | None]:
        """Look up and compress at the same time; an answer that is there, or being made, ends the compression."""
        compressing = asyncio.create_task(self._compress(question, model, timings))
        try:
            status, found = await self._look_up(question, model, timings)
            if found is not None and (found.answer is not None or found.follow):
                return status, found, None
            return status, found, await compressing
        finally:
            if not compressing.done():
                compressing.cancel()
                await asyncio.wait({compressing})

    async def _look_up(self, question: Question, model: Model, timings: Timings) -> tuple[CacheStatus, Found | None]:
        if self._cache is None or not question.uses_cache:
            return CacheStatus.BYPASS, None
        began_at = self._clock.now()
        try:
            found = await self._cache.look_up(question, model, regenerates=self._regenerations.has_room)
        except MeshError as error:
            self._observer.passed_over("cache", error.reason)
            return CacheStatus.UNAVAILABLE, None
        finally:
            timings.cache_lookup_s = self._clock.now() - began_at
        if found.answer:
            return CacheStatus.HIT, found
        if found.lead or found.follow:
            return (CacheStatus.LEAD if found.lead else CacheStatus.FOLLOW), found
        return (CacheStatus.MISS if found.digest else CacheStatus.BYPASS), found

    async def _compress(self, question: Question, model: Model, timings: Timings) -> Compressed | None:
        if self._compressor is None or not question.is_compressible:
            return None
        began_at = self._clock.now()
        try:
            return await self._compressor.compress(question, model)
        except MeshError as error:
            self._observer.passed_over("compressor", error.reason)
            return None
        finally:
            timings.compress_s = self._clock.now() - began_at

    async def _generate(
        self, job: Job, running: Running, status: CacheStatus, found: Found | None, timings: Timings
    ) -> AsyncGenerator[Event, None]:
        async def compress() -> None:
            job.compressed = await self._compress(job.question, job.model, timings)

        job.placement = found.placement if found is not None else None
        source = self._flights.events(job, found, compress)
        relay = Relay(source, clock=self._clock, flush_interval_s=self._flush_interval_s)
        pump = asyncio.create_task(relay.pump())
        running.attach(pump)
        commit = None
        try:
            taken = await relay.taken()
            accepted = self._accepted(job, taken, status)
            self._observer.accepted(accepted)
            yield accepted
            self._commits.note_prefix(job.placement, taken.blocks)
            async for event in relay.events():
                if timings.first_token_s is None and isinstance(event, Piece):
                    timings.first_token_s = self._since_arrival(job.question)
                    self._observer.first_token(timings.first_token_s)
                yield event
            await cancel_and_wait(pump)
            finished = self._finished(job, relay, timings)
            commit = self._begin_commit(job, found, relay, accepted, finished)
        finally:
            await cancel_and_wait(pump)
            if job.publication is not None and commit is None:
                self._commits.abandon(job.publication)
        try:
            yield finished
        finally:
            # Behind the event: the caller does not wait for metrics and logs.
            self._observer.finished(job.question, accepted, finished)
        if commit is not None:
            await self._commits.settle(commit)

    def _regenerate(self, job: Job, found: Found) -> None:
        """Begin to make a stale answer anew, where it fell to this request."""
        lease, model = found.regenerate, job.model
        if lease is None:
            return

        async def generate(question: Question) -> AsyncGenerator[Event, None]:
            again = Job(decision_id=uuid.uuid4().hex, question=question, model=model)
            led, timings = Found(digest=found.digest, lead=lease), Timings()
            with self._journal.entry(question.tenant, again.decision_id, "") as running:
                again.compressed = await self._compress(question, model, timings)
                events = self._generate(again, running, CacheStatus.REGENERATION, led, timings)
                async with contextlib.aclosing(events):
                    async for event in events:
                        yield event

        self._regenerations.begin(job.question, lease, generate)

    def _begin_commit(
        self, job: Job, found: Found | None, relay: Relay, accepted: Accepted, finished: Finished
    ) -> asyncio.Task[None] | None:
        """None where there is nothing to store, or where it is another's to store."""
        if found is None or not found.digest or not job.question.stores_answer or job.is_following:
            return None
        if not is_storable(finished.finish_reason):
            return None
        answer = relay.answer(finished, accepted)
        return self._commits.start(found.digest, answer, job.question.answer_ttl_s, job.publication)

    def _cancelled(self, job: Job, timings: Timings) -> list[Event]:
        """The whole stream of a request that was cancelled before it had begun."""
        accepted = self._accepted(job, Taken(), CacheStatus.BYPASS)
        timings.total_s = self._since_arrival(job.question)
        finished = Finished(
            finish_reason=FinishReason.CANCELLED,
            usage=Usage(),
            timings=timings,
            cost=Cost(),
            trace_id=job.question.trace_id,
        )
        self._observer.accepted(accepted)
        self._observer.finished(job.question, accepted, finished)
        return [accepted, finished]

    def _accepted(self, job: Job, taken: Taken, status: CacheStatus) -> Accepted:
        return Accepted(
            decision_id=job.decision_id,
            model=job.model.name,
            tier=job.model.tier,
            instance=taken.instance_id,
            revision=taken.revision,
            cache_status=status,
            compression=job.compressed.summary if job.compressed else None,
        )

    def _finished(self, job: Job, relay: Relay, timings: Timings) -> Finished:
        compression = job.compressed.summary if job.compressed else None
        usage = relay.usage(compression)
        relay.fill(timings)
        timings.attempts = job.attempt_count
        timings.total_s = self._since_arrival(job.question)
        return Finished(
            finish_reason=relay.finish_reason,
            usage=usage,
            timings=timings,
            cost=self._cost(job, usage),
            trace_id=job.question.trace_id,
        )

    @staticmethod
    def _cost(job: Job, usage: Usage) -> Cost:
        """Whoever follows pays nothing: the leader's request has paid."""
        if job.is_following:
            return bill_of_hit(job.followed_cost_micro_usd)
        return bill(job.model.price, usage, job.compressed.summary if job.compressed else None)

    def _since_arrival(self, question: Question) -> float:
        return self._clock.now() - question.arrived_at
