"""Stale answers made anew, behind the callers that got them: so many at once, and only while nobody else would wait.

The cache gives the lease to one request of all that meet a stale answer. Its router asks the engines again, as the
tenant's request with the least priority, with a decision and a trace of its own that names the request it came from.
A failure leaves the stale answer where it is, and this router tries no other one for a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Callable

from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.incoming import current_call, set_current_call
from services.router.admission import Admission
from services.router.commits import Commits
from services.router.events import Event, Finished, is_storable
from services.router.observer import Observer, Regenerated
from services.router.ports import Lease
from services.router.question import Question

LEAST_PRIORITY = -10
REST_AFTER_FAILURE_S = 1.0
Generate = Callable[[Question], AsyncGenerator[Event, None]]


class Regenerations:
    """Background generations under way."""

    def __init__(
        self,
        *,
        admission: Admission,
        commits: Commits,
        observer: Observer,
        clock: Clock,
        max_count: int,
        timeout_s: float,
    ) -> None:
        self._admission = admission
        self._commits = commits
        self._observer = observer
        self._clock = clock
        self._max_count = max_count
        self._timeout_s = timeout_s
        self._rests_until = 0.0
        self._is_closed = False
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def has_room(self) -> bool:
        """Whether another one would be begun now."""
        is_rested = self._clock.now() >= self._rests_until
        is_free = len(self._under_way) < self._max_count and self._admission.has_spare_place
        return is_free and is_rested and not self._is_closed

    def begin(self, question: Question, lease: Lease, generate: Generate) -> None:
        """Generate the question's answer again, or give the lease back where there is no room."""
        if not self.has_room:
            self._refuse(lease)
            return
        task = asyncio.create_task(self._run(question, lease, generate))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """End those under way; their leases are given back, for routers that stay."""
        self._is_closed = True
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _run(self, question: Question, lease: Lease, generate: Generate) -> None:
        with self._observer.regenerating() as trace_id:
            background = self._in_background(question, trace_id)
            with contextlib.ExitStack() as place:
                try:
                    place.enter_context(self._admission.spare_place())
                except MeshError:
                    self._refuse(lease)
                    return
                try:
                    await self._exhaust(generate(background))
                except MeshError as error:
                    self._fail(error.reason, None)
                except Exception as problem:
                    # Nobody awaits this task: without a word here a bug would go unnoticed.
                    self._fail("INTERNAL", problem)

    async def _exhaust(self, events: AsyncGenerator[Event, None]) -> None:
        reason = None
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, Finished):
                    reason = event.finish_reason
        if reason is None or not is_storable(reason):
            self._fail(reason.value if reason else "nothing", None)
        else:
            self._observer.regenerated(Regenerated.DONE)

    def _in_background(self, question: Question, trace_id: str) -> Question:
        """The question without its caller: neither its deadline nor its keys apply."""
        now = self._clock.now()
        call = current_call()
        set_current_call(
            dataclasses.replace(call, trace_id=trace_id, arrived_at=now, deadline_at=now + self._timeout_s)
        )
        return dataclasses.replace(
            question,
            trace_id=trace_id,
            priority=LEAST_PRIORITY,
            pinned_instance="",
            idempotency_key="",
            arrived_at=now,
            timeout_s=self._timeout_s,
        )

    def _refuse(self, lease: Lease) -> None:
        self._observer.regenerated(Regenerated.REFUSED)
        self._commits.give_back(lease)

    def _fail(self, reason: str, problem: Exception | None) -> None:
        self._rests_until = self._clock.now() + REST_AFTER_FAILURE_S
        self._observer.regenerated(Regenerated.FAILED, reason, problem)
