"""What a look-up and a commit mean: who shares an answer, which requests are looked up at all, which answers are kept.

The tenant is part of the place where an entry lies, principal and session are part of the digest. A session is only
the caller's claim, so a session's answers are shared by its principal alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from meshkit.clock import Clock
from meshkit.errors import InvalidRequest
from services.cache.entry import Entry, Finish
from services.cache.epoch_keeper import INVALIDATED, EpochKeeper
from services.cache.lifetime import Lifetimes
from services.cache.request_key import is_repeatable, partition, request_digest, storage_key
from services.cache.semantic.by_meaning import ByMeaning
from services.cache.semantic.equivalence import AnswerText
from services.cache.semantic.meaning import Served
from services.cache.semantic.verdict import Verdict
from services.cache.settings import EntrySettings, EpochSettings, SemanticSettings
from services.cache.single_flight import FlightTicket, SingleFlight
from services.cache.ticket import Ticket, ticket_from
from services.cache.tiered import Absent, Found, TieredStore, TierReport

NOT_STORABLE = b""
"""The digest of a request whose answer must not be stored."""


class Mode(IntEnum):
    """How to look up; the numbers are the contract's."""

    DEFAULT = 0
    """Exact, for repeatable requests only."""
    OFF = 1
    EXACT = 2
    SEMANTIC = 3


class Scope(IntEnum):
    """Who may share an answer; the numbers are the contract's."""

    DEFAULT = 0
    TENANT = 1
    PRINCIPAL = 2
    SESSION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, from the verified identity."""

    tenant: str
    principal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A look-up. `request` is plain data, see `request_key`; without scope and session."""

    request: Mapping[str, Any]
    mode: Mode = Mode.DEFAULT
    scope: Scope = Scope.DEFAULT
    session_id: str = ""
    max_age_s: float | None = None
    max_error_rate: float | None = None
    """Share of wrong ones among hits by meaning that is accepted; None: the deployment's default."""
    shares_generation: bool = False
    """On a miss, lead a flight or follow the one there is."""
    regenerates_stale: bool = False
    """With a stale answer, lead the flight that replaces it, where nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The digest to commit under, a ticket as bytes, and what was found, or the request's part in a flight."""

    digest: bytes
    result: Found | Absent | FlightTicket
    verdict: Verdict | None = None
    """What look-up by meaning said; None where there was none."""
    regeneration: str | None = None
    """With a stale answer: the lease to make it anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer to store. `payload` is the contract's own serialisation."""

    payload: bytes
    finish: Finish
    revision: str = ""
    tags: tuple[str, ...] = ()
    ttl_s: float | None = None
    said: Callable[[], AnswerText | None] = lambda: None
    """What it says, for look-up by meaning; None: it is not found by meaning."""


class ResponseCache:
    """Looks answers up and stores them, for one caller at a time."""

    def __init__(
        self,
        store: TieredStore,
        flights: SingleFlight,
        *,
        limits: EntrySettings,
        lifetimes: Lifetimes,
        clock: Clock,
        epochs: EpochKeeper | None = None,
        by_meaning: ByMeaning | None = None,
    ) -> None:
        self._store = store
        self._flights = flights
        self._epochs = epochs or EpochKeeper(EpochSettings(), longest_life_s=limits.max_ttl_s, clock=clock)
        self._by_meaning = by_meaning or ByMeaning(None, SemanticSettings())
        self._limits = limits
        self._lifetimes = lifetimes
        self._clock = clock

    async def lookup(self, caller: Caller, query: Query) -> Looked:
        """Find the answer to a request; reasons of Absent: see `tiered`, and `switched off`, `not repeatable`.

        By meaning only where the exact look-up finds nothing, and the caller or the tenant's policy asks for it.
        """
        if query.mode is Mode.OFF:
            return Looked(digest=NOT_STORABLE, result=Absent(reason="switched off"))
        if query.mode is Mode.DEFAULT and not is_repeatable(query.request.get("sampling", {})):
            return Looked(digest=NOT_STORABLE, result=Absent(reason="not repeatable"))
        digest = request_digest(query.request, _sharing(caller, query))
        await self._epochs.settle()
        ticket = Ticket(digest=digest, epoch=self._epochs.number(partition(caller.tenant)))
        key = storage_key(caller.tenant, digest)
        result: Found | Absent | FlightTicket = await self._store.lookup(key, max_age_s=query.max_age_s)
        verdict = None
        if isinstance(result, Absent) and self._goes_by_meaning(caller, query):
            alike = await self._find_alike(caller, query, key)
            result, verdict = (alike.found, alike.verdict) if isinstance(alike, Served) else (result, alike)
        if isinstance(result, Absent) and query.shares_generation:
            result = await self._join(caller, bytes(ticket), query)
        regeneration = None
        if isinstance(result, Found) and result.is_stale and query.regenerates_stale:
            regeneration = await self._flights.claim(flight_key(caller, bytes(ticket)), bytes(ticket))
        return Looked(digest=bytes(ticket), result=result, verdict=verdict, regeneration=regeneration)

    def _goes_by_meaning(self, caller: Caller, query: Query) -> bool:
        is_left_open = query.mode is Mode.DEFAULT
        return self._by_meaning.is_wanted(
            caller.tenant, is_asked=query.mode is Mode.SEMANTIC, is_left_open=is_left_open
        )

    async def _find_alike(self, caller: Caller, query: Query, key: bytes) -> Served | Verdict:
        """By meaning; stored answers are read, and judged, like any other, and none is given that is stale."""

        async def fetch(stored_key: bytes) -> Found | Absent:
            found = await self._store.lookup(stored_key, max_age_s=query.max_age_s)
            return Absent(reason="stale") if isinstance(found, Found) and found.is_stale else found

        return await self._by_meaning.lookup(
            caller.tenant,
            query.request,
            _sharing(caller, query),
            key=key,
            max_error_rate=query.max_error_rate,
            fetch=fetch,
        )

    async def _join(self, caller: Caller, packed: bytes, query: Query) -> FlightTicket:
        """An answer that came since the look-up is followed, for finished flights can be, for a moment.

        The flight's key has the tenant's number, so nobody follows an answer that was begun before an invalidation.
        """
        is_new_enough = query.max_age_s is None or query.max_age_s >= self._flights.linger_s
        return await self._flights.join(flight_key(caller, packed), packed, follows_finished=is_new_enough)

    async def commit(self, caller: Caller, digest: bytes, answer: Answer) -> str:
        """Store an answer; return why it was not stored, empty where it was."""
        ticket = ticket_from(digest)
        self._check(answer)
        if answer.finish is Finish.INCOMPLETE:
            return "the answer is not complete"
        if len(answer.payload) > self._limits.max_bytes:
            return f"{len(answer.payload)} bytes is too large (limit: {self._limits.max_bytes} bytes)"
        wall = self._clock.wall()
        fresh_until = wall + self._lifetimes.seconds(answer.ttl_s)
        entry = Entry(
            payload=answer.payload,
            stored_at=wall,
            fresh_until=fresh_until,
            expires_at=fresh_until + self._limits.stale_s,
            # No caller can claim to be newer than what this instance knows.
            epoch=min(ticket.epoch, self._epochs.number(partition(caller.tenant))),
            revision=answer.revision,
            tags=answer.tags,
        )
        key = storage_key(caller.tenant, ticket.digest)
        if self._epochs.objection(key, entry) == INVALIDATED:
            return "it was invalidated while it was generated"
        await self._store.commit(key, entry)
        self._by_meaning.offer(key, answer.said)
        return ""

    async def discard(self, caller: Caller, digest: bytes, found: Found) -> None:
        """Forget an entry whose payload turned out not to be an answer."""
        await self._store.discard(found, storage_key(caller.tenant, ticket_from(digest).digest))

    def blame(self, caller: Caller, digest: bytes) -> bool:
        """The hit by meaning that this digest's look-up gave was wrong; False where no such hit is known. Counts once.

        The digest is that of the look-up, so a report after an invalidation still finds its hit.
        """
        return self._by_meaning.blame(storage_key(caller.tenant, ticket_from(digest).digest))

    async def report(self) -> list[TierReport]:
        """Counters and sizes of each tier."""
        return await self._store.report()

    def _check(self, answer: Answer) -> None:
        if answer.ttl_s is not None and answer.ttl_s <= 0:
            raise InvalidRequest("must be over 0", field="ttl", limit="over 0 s")
        if len(answer.tags) > self._limits.max_tags:
            raise InvalidRequest(f"{len(answer.tags)} is too many", field="tags", limit=str(self._limits.max_tags))
        for tag in answer.tags:
            if not 0 < len(tag.encode()) <= self._limits.max_tag_bytes:
                limit = f"1..{self._limits.max_tag_bytes} bytes"
                raise InvalidRequest("a tag is empty or too long", field="tags", limit=limit)


def flight_key(caller: Caller, packed: bytes) -> bytes:
    """Where the caller's flights for a look-up's digest are: in its tenant's own part, whoever gave the digest."""
    return partition(caller.tenant) + packed


def _sharing(caller: Caller, query: Query) -> tuple[str, ...]:
    if query.scope is Scope.PRINCIPAL:
        if not caller.principal:
            raise InvalidRequest("PRINCIPAL needs a verified identity", field="key.scope", limit="TENANT or SESSION")
        return ("principal", caller.principal)
    if query.scope is Scope.SESSION:
        if not query.session_id:
            raise InvalidRequest("is missing with scope SESSION", field="key.session_id", limit="at least 1 character")
        return ("session", caller.principal, query.session_id)
    return ()
