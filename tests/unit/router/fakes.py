"""In-memory engine, cache, compressor and observer for the router's rules."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

from meshkit.clock import Clock, SystemClock
from meshkit.coalescing import Piece
from meshkit.errors import Conflict, MeshError, NotFound
from meshkit.picker import Picker
from meshkit.registry.base import Instance, InstanceSet
from meshkit.retry import RetryBudget
from services.router.admission import Admission
from services.router.answering import Answering
from services.router.attempts import Attempts, Job
from services.router.balancer import Balancer
from services.router.catalogue import Catalogue, Model
from services.router.commits import Commits
from services.router.events import Accepted, Answer, Compression, Finished, FinishReason, Usage
from services.router.flights import Flights
from services.router.journal import Journal
from services.router.observer import Regenerated
from services.router.ports import (
    Compressed,
    EngineEvent,
    EngineFinished,
    EngineStarted,
    FollowEvent,
    Found,
    Landed,
    Lease,
    Placement,
    PromptBlocks,
    Takeover,
)
from services.router.pricing import Price
from services.router.question import Question
from services.router.regenerations import Regenerations

PRICE = Price(input_micro_usd=1_000_000, cached_input_micro_usd=500_000, output_micro_usd=2_000_000)


def instance(name: str, **metadata: str) -> Instance:
    return Instance(
        id=name,
        service="mesh-inference",
        address=f"{name}:1",
        metadata={"model": "small", "tier": "standard", "revision": "r1", "context_tokens": "2048", **metadata},
    )


def question(**changes: object) -> Question:
    values = {"payload": "the prompt", "tenant": "default", "principal": "", "trace_id": "0" * 32}
    return Question(**{**values, **changes})  # type: ignore[arg-type]


def words(*texts: str) -> list[EngineEvent]:
    """A whole engine stream that says these words, one token each."""
    pieces = [Piece(text=text, token_count=1) for text in texts]
    usage = Usage(prompt_tokens=10, completion_tokens=len(texts))
    finished = EngineFinished(
        finish_reason=FinishReason.STOP, usage=usage, queue_s=0.001, prefill_s=0.002, decode_s=0.003
    )
    return [EngineStarted(prompt_tokens=10, revision="r1"), *pieces, finished]


class Hang:
    """In a script: say nothing more until cancelled."""


@dataclass
class FakeEngine:
    """Plays scripts, in order; each entry is an event, an error to raise, or Hang. Counts streams that are open."""

    scripts: list[list[EngineEvent | MeshError | Hang]]
    asked: list[str] = field(default_factory=list)
    payloads: list[object] = field(default_factory=list)
    open_count: int = 0
    blocks_wanted: list[bool] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def generate(
        self,
        instance: Instance,
        question: Question,
        compressed: Compressed | None,
        request_id: str,
        timeout_s: float,
        *,
        wants_blocks: bool = False,
    ) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        self.asked.append(instance.id)
        self.blocks_wanted.append(wants_blocks)
        self.payloads.append(compressed.payload if compressed else question.payload)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        self.open_count += 1
        try:
            yield self._play(script)
        finally:
            self.open_count -= 1

    async def _play(self, script: list[EngineEvent | MeshError | Hang]) -> AsyncIterator[EngineEvent]:
        for step in script:
            await asyncio.sleep(0)
            if isinstance(step, MeshError):
                raise step
            if isinstance(step, Hang):
                await asyncio.Event().wait()
            else:
                yield step


@dataclass
class FakeFlight:
    """The log of one answer while it is made."""

    pieces: list[Piece] = field(default_factory=list)
    term: int = 1
    is_vacant: bool = False
    is_gone: bool = False
    landed: Landed | None = None
    follower_count: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def vacate(self) -> None:
        self.is_vacant = True
        self.tell()

    def end(self, landed: Landed) -> None:
        self.landed = landed
        self.tell()

    async def read(self, name: str, first: int) -> AsyncIterator[FollowEvent]:
        self.follower_count += 1
        while True:
            changed = self.changed
            for piece in self.pieces[first:]:
                first += 1
                yield piece
            if self.is_gone:
                raise NotFound("the flight is over")
            if self.landed is not None:
                yield self.landed
                return
            if self.is_vacant:
                self.is_vacant = False
                self.term += 1
                yield Takeover(lease=Lease(id=f"{name}#{self.term}"))
                return
            await changed.wait()


@dataclass
class FakeCache:
    """A dictionary under the question's payload; `failure` makes it unreachable."""

    answers: dict[bytes, Answer] = field(default_factory=dict)
    ttls_s: list[float | None] = field(default_factory=list)
    failure: MeshError | None = None
    shares_generation: bool = False
    flights: dict[str, FakeFlight] = field(default_factory=dict)
    emptied_count: int = 0
    follow_failures: list[MeshError] = field(default_factory=list)
    """Raised by the next calls to `follow`, one each."""
    is_stale: bool = False
    """Every answer's time is over, until it is committed again."""
    given_back: list[str] = field(default_factory=list)
    placement: Placement | None = None
    noted: list[tuple[bytes, PromptBlocks]] = field(default_factory=list)

    async def look_up(
        self, question: Question, model: Model, *, regenerates: bool = False, lost: Lease | None = None
    ) -> Found:
        self._check()
        digest = f"{question.tenant}:{question.payload}".encode()
        answer = self.answers.get(digest)
        if answer is not None and self.is_stale:
            return Found(digest=digest, answer=answer, is_stale=True, regenerate=self._claim(digest, regenerates))
        if answer is not None or not self.shares_generation:
            return Found(digest=digest, answer=answer, placement=None if answer else self.placement)
        name = f"{digest.decode()}@{self.emptied_count}"
        if name in self.flights:
            return Found(digest=digest, follow=Lease(id=name))
        self.flights[name] = FakeFlight()
        return Found(digest=digest, lead=Lease(id=f"{name}#1"))

    async def commit(self, digest: bytes, answer: Answer, ttl_s: float | None, lease: Lease | None = None) -> None:
        self._check()
        self.answers[digest] = answer
        self.is_stale = False
        self.ttls_s.append(ttl_s)
        if lease:
            landed = Landed(
                finish_reason=answer.finish_reason, usage=answer.usage, cost_micro_usd=answer.cost_micro_usd
            )
            self._led(lease).end(landed)

    async def renew(self, lease: Lease, first: int, pieces: Sequence[tuple[float, Piece]]) -> bool:
        self._check()
        flight = self._led(lease)
        assert first <= len(flight.pieces)
        flight.pieces[first:] = [piece for _, piece in pieces]
        flight.tell()
        return True

    async def abandon(self, lease: Lease) -> None:
        self.given_back.append(lease.id)
        self._led(lease).vacate()

    async def note_prefix(self, marks: bytes, blocks: PromptBlocks) -> None:
        self._check()
        self.noted.append((marks, blocks))

    @contextlib.asynccontextmanager
    async def follow(self, lease: Lease, first: int) -> AsyncIterator[AsyncIterator[FollowEvent]]:
        if self.follow_failures:
            raise self.follow_failures.pop(0)
        if lease.id not in self.flights:
            raise NotFound("the flight is over")
        yield self.flights[lease.id].read(lease.id, first)

    def empty(self) -> None:
        """All flights are gone, as from a server that was flushed."""
        gone, self.flights = self.flights, {}
        self.emptied_count += 1
        for flight in gone.values():
            flight.is_gone = True
            flight.tell()

    def _claim(self, digest: bytes, regenerates: bool) -> Lease | None:
        name = f"{digest.decode()}@{self.emptied_count}"
        if not regenerates or (name in self.flights and not self.flights[name].is_vacant):
            return None
        self.flights[name] = FakeFlight()
        return Lease(id=f"{name}#1")

    def _led(self, lease: Lease) -> FakeFlight:
        name, term = lease.id.split("#")
        if name not in self.flights or int(term) != self.flights[name].term:
            raise Conflict("another leads")
        return self.flights[name]

    def _check(self) -> None:
        if self.failure:
            raise self.failure


@dataclass
class FakeCompressor:
    """Halves every prompt."""

    failure: MeshError | None = None

    async def compress(self, question: Question, model: Model) -> Compressed:
        if self.failure:
            raise self.failure
        return Compressed(
            payload="short prompt", summary=Compression(original_tokens=20, compressed_tokens=10, quality_score=1.0)
        )


class SilentObserver:
    """Remembers how often it was told something."""

    def __init__(self) -> None:
        self.retries: list[str] = []
        self.passed: list[str] = []
        self.finished_count = 0
        self.failed_commits: list[str] = []
        self.answered: list[tuple[Question, Accepted, Finished]] = []
        self.regenerations: list[Regenerated] = []

    def accepted(self, accepted: Accepted) -> None: ...

    def first_token(self, ttft_s: float) -> None: ...

    def retried(self, instance_id: str, reason: str, attempt: int) -> None:
        self.retries.append(instance_id)

    def passed_over(self, what: str, reason: str) -> None:
        self.passed.append(what)

    def finished(self, question: Question, accepted: Accepted, finished: Finished) -> None:
        self.finished_count += 1
        self.answered.append((question, accepted, finished))

    @contextlib.contextmanager
    def regenerating(self) -> Iterator[str]:
        yield "a trace of its own"

    def regenerated(self, outcome: Regenerated, reason: str = "", problem: Exception | None = None) -> None:
        self.regenerations.append(outcome)

    def commit_failed(self, reason: str) -> None:
        self.failed_commits.append(reason)


@dataclass
class Bench:
    """A router of fakes, with its parts in reach."""

    engine: FakeEngine
    cache: FakeCache | None = None
    compressor: FakeCompressor | None = None
    instances: tuple[Instance, ...] = (instance("a"), instance("b"))
    clock: Clock = field(default_factory=SystemClock)
    max_active: int = 8
    max_waiting: int = 8
    max_wait_s: float = 5.0
    max_attempts: int = 3
    max_regenerations: int = 2

    def __post_init__(self) -> None:
        known = InstanceSet("mesh-inference")
        known.replace(self.instances)
        self.picker = Picker(known, self.clock)
        self.balancer = Balancer()
        self.observer = SilentObserver()
        self.journal = Journal()
        self.admission = Admission(max_active=self.max_active, max_waiting=self.max_waiting, max_wait_s=self.max_wait_s)
        self.attempts = Attempts(
            engine=self.engine,
            picker=self.picker,
            balancer=self.balancer,
            budget=RetryBudget(),
            observer=self.observer,
            clock=self.clock,
            max_attempts=self.max_attempts,
            first_backoff_s=0.0,
        )
        self.commits = Commits(self.cache, self.observer, grace_s=1.0)
        self.regenerations = Regenerations(
            admission=self.admission,
            commits=self.commits,
            observer=self.observer,
            clock=self.clock,
            max_count=self.max_regenerations,
            timeout_s=30.0,
        )
        self.answering = Answering(
            admission=self.admission,
            catalogue=Catalogue({"standard": PRICE}),
            picker=self.picker,
            flights=Flights(cache=self.cache, attempts=self.attempts, observer=self.observer, clock=self.clock),
            journal=self.journal,
            cache=self.cache,
            compressor=self.compressor,
            commits=self.commits,
            regenerations=self.regenerations,
            observer=self.observer,
            clock=self.clock,
            flush_interval_s=0.0,
        )

    def job(self) -> Job:
        """One question for the only model."""
        asked = question(arrived_at=self.clock.now())
        return Job(decision_id="d", question=asked, model=Catalogue({}).choose(self.instances))

    async def ask(self, **changes: object) -> list[object]:
        """All events of one question."""
        changes.setdefault("arrived_at", self.clock.now())
        return [event async for event in self.answering.answer(question(**changes))]
