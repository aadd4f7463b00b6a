"""One question, as many engine attempts as it takes, as long as no token has been sent.

An attempt that fails through the instance's own fault (gone, not ready, full) is repeated on the least loaded other
instance, within the request's attempts and the router's retry budget. Once a token is out, the failure is the caller's
to see: it carries the count of tokens sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from meshkit.clock import Clock
from meshkit.coalescing import Piece
from meshkit.errors import BackendDown, InvalidRequest, MeshError, NotReady, Overloaded
from meshkit.picker import Picker
from meshkit.registry.base import Instance
from meshkit.retry import RetryBudget, backoff_s
from services.router.balancer import Balancer
from services.router.catalogue import Model
from services.router.observer import Observer
from services.router.ports import Compressed, Engine, EngineEvent, Placement
from services.router.publication import Publication
from services.router.question import Question

RETRIED = (BackendDown, NotReady, Overloaded)
SourcedEvent = tuple[str, EngineEvent]
"""An event and the id of the instance that it came from."""


@dataclass(slots=True, kw_only=True)
class Job:
    """What is asked of the engines for one request, and how it goes."""

    decision_id: str
    question: Question
    model: Model
    compressed: Compressed | None = None
    attempt_count: int = 0
    has_sent: bool = False
    token_count: int = 0
    tried: set[str] = field(default_factory=set)
    is_following: bool = False
    """Another request generates the answer."""
    followed_cost_micro_usd: int = 0
    placement: Placement | None = None
    """Who holds the beginning of the prompt; None: nobody was asked."""
    publication: Publication | None = None
    """Where this request leads a flight."""


class Attempts:
    """Runs jobs on the inference instances."""

    def __init__(
        self,
        *,
        engine: Engine,
        picker: Picker,
        balancer: Balancer,
        budget: RetryBudget,
        observer: Observer,
        clock: Clock,
        max_attempts: int,
        first_backoff_s: float,
    ) -> None:
        self._engine = engine
        self._picker = picker
        self._balancer = balancer
        self._budget = budget
        self._observer = observer
        self._clock = clock
        self._max_attempts = max_attempts
        self._first_backoff_s = first_backoff_s

    async def events(self, job: Job) -> AsyncGenerator[SourcedEvent, None]:
        """The engine's events with the instance they came from; a retry starts over with another EngineStarted."""
        self._budget.earn()
        while True:
            instance = self._choose(job)
            job.attempt_count += 1
            try:
                async for event in self._attempt(job, instance):
                    yield instance.id, event
                return
            except RETRIED as error:
                await self._prepare_retry(job, instance, error)

    async def _attempt(self, job: Job, instance: Instance) -> AsyncGenerator[EngineEvent, None]:
        time_left_s = job.question.timeout_s - (self._clock.now() - job.question.arrived_at)
        request_id = f"{job.decision_id}.{job.attempt_count}"
        wants_blocks = job.placement is not None and not job.placement.is_noted
        with self._balancer.sending_to(instance):
            async with self._engine.generate(
                instance, job.question, job.compressed, request_id, time_left_s, wants_blocks=wants_blocks
            ) as events:
                async for event in events:
                    if isinstance(event, Piece):
                        job.has_sent = True
                        job.token_count += event.token_count
                    yield event
        self._picker.succeeded(instance)

    async def _prepare_retry(self, job: Job, instance: Instance, error: MeshError) -> None:
        """Return if another attempt may be made, after its backoff; raise what the caller is to see if not."""
        if isinstance(error, BackendDown):
            self._picker.failed(instance)
        if job.has_sent:
            cause = error.cause if isinstance(error, BackendDown) else error.message
            raise BackendDown(cause, sent_token_count=job.token_count) from error
        if job.attempt_count >= self._max_attempts or not self._budget.spend():
            raise error
        job.tried.add(instance.id)
        self._observer.retried(instance.id, error.reason, job.attempt_count)
        await self._clock.sleep(backoff_s(job.attempt_count, first_s=self._first_backoff_s))

    def _choose(self, job: Job) -> Instance:
        """The pinned instance, else the balancer's choice of the untried ones, else of all."""
        serving = {instance.id for instance in job.model.instances}
        if pinned := job.question.pinned_instance:
            if pinned not in serving:
                known = ", ".join(sorted(serving))
                raise InvalidRequest(f"{pinned!r} does not serve {job.model.name}", field="route.pin", limit=known)
            serving = {pinned}
        known_now = self._picker.candidates(lambda instance: instance.id in serving)
        if not known_now:
            raise BackendDown(f"no instance of {job.model.name} is known")
        untried = [instance for instance in known_now if instance.id not in job.tried]
        resident_tokens = job.placement.resident_tokens if job.placement else {}
        return self._balancer.choose(untried or known_now, resident_tokens)


async def cancel_and_wait(task: asyncio.Task[None]) -> None:
    """End a task and return when it has let everything go."""
    task.cancel()
    await asyncio.wait({task})
