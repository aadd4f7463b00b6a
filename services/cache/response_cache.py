"""What a look-up and a commit mean: who shares an answer, which requests are looked up at all, which answers are kept.

The tenant is part of the place where an entry lies, principal and session are part of the digest. A session is only
the caller's claim, so a session's answers are shared by its principal alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from meshkit.clock import Clock
from meshkit.errors import InvalidRequest
from services.cache.entry import Entry, Finish
from services.cache.lifetime import Lifetimes
from services.cache.request_key import DIGEST_BYTES, is_repeatable, request_digest, storage_key
from services.cache.semantic.equivalence import AnswerText
from services.cache.semantic.meaning import Asked, MeaningLookup, Served
from services.cache.semantic.question import question_of
from services.cache.semantic.verdict import Decider, Verdict
from services.cache.settings import EntrySettings, SemanticSettings
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The digest to commit under, and what was found."""

    digest: bytes
    result: Found | Absent
    verdict: Verdict | None = None
    """What look-up by meaning said; None where there was none."""


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
        *,
        limits: EntrySettings,
        lifetimes: Lifetimes,
        clock: Clock,
        meaning: MeaningLookup | None = None,
        semantic: SemanticSettings | None = None,
    ) -> None:
        self._store = store
        self._meaning = meaning
        self._semantic = semantic or SemanticSettings()
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
        key = storage_key(caller.tenant, digest)
        result = await self._store.lookup(key, max_age_s=query.max_age_s)
        if isinstance(result, Absent) and self._goes_by_meaning(caller, query):
            return await self._look_up_by_meaning(caller, query, Looked(digest=digest, result=result), key)
        return Looked(digest=digest, result=result)

    async def commit(self, caller: Caller, digest: bytes, answer: Answer) -> str:
        """Store an answer; return why it was not stored, empty where it was."""
        self._check(digest, answer)
        if answer.finish is Finish.INCOMPLETE:
            return "the answer is not complete"
        if len(answer.payload) > self._limits.max_bytes:
            return f"{len(answer.payload)} bytes is too large (limit: {self._limits.max_bytes} bytes)"
        wall = self._clock.wall()
        entry = Entry(
            payload=answer.payload,
            stored_at=wall,
            expires_at=wall + self._lifetimes.seconds(answer.ttl_s),
            revision=answer.revision,
            tags=answer.tags,
        )
        key = storage_key(caller.tenant, digest)
        await self._store.commit(key, entry)
        if self._meaning is not None:
            self._meaning.offer(key, answer.said)
        return ""

    async def discard(self, caller: Caller, digest: bytes, found: Found) -> None:
        """Forget an entry whose payload turned out not to be an answer."""
        await self._store.discard(found, storage_key(caller.tenant, digest))

    def blame(self, caller: Caller, digest: bytes) -> bool:
        """The hit by meaning that this digest's look-up gave was wrong; False where no such hit is known."""
        return self._meaning is not None and self._meaning.blame(storage_key(caller.tenant, digest))

    async def report(self) -> list[TierReport]:
        """Counters and sizes of each tier."""
        return await self._store.report()

    def _goes_by_meaning(self, caller: Caller, query: Query) -> bool:
        return query.mode is Mode.SEMANTIC or (query.mode is Mode.DEFAULT and self._semantic.is_always(caller.tenant))

    async def _look_up_by_meaning(self, caller: Caller, query: Query, looked: Looked, key: bytes) -> Looked:
        """The exact look-up found nothing; stored answers are read, and judged, like any other."""
        if self._meaning is None:
            return replace(looked, verdict=Verdict(decided_by=Decider.UNAVAILABLE, detail="it is switched off"))
        question = question_of(caller.tenant, query.request, _sharing(caller, query))
        if question is None:
            return replace(looked, verdict=Verdict(decided_by=Decider.NOT_COMPARABLE))

        async def fetch(stored_key: bytes) -> Found | Absent:
            return await self._store.lookup(stored_key, max_age_s=query.max_age_s)

        accepted = self._semantic.error_rate(caller.tenant, query.max_error_rate)
        found = await self._meaning.lookup(Asked(key=key, question=question, max_error_rate=accepted), fetch)
        if isinstance(found, Served):
            return replace(looked, result=found.found, verdict=found.verdict)
        return replace(looked, verdict=found)

    def _check(self, digest: bytes, answer: Answer) -> None:
        if len(digest) != DIGEST_BYTES:
            raise InvalidRequest(f"{len(digest)} bytes is not a digest", field="digest", limit=f"{DIGEST_BYTES} bytes")
        if answer.ttl_s is not None and answer.ttl_s <= 0:
            raise InvalidRequest("must be over 0", field="ttl", limit="over 0 s")
        if len(answer.tags) > self._limits.max_tags:
            raise InvalidRequest(f"{len(answer.tags)} is too many", field="tags", limit=str(self._limits.max_tags))
        for tag in answer.tags:
            if not 0 < len(tag.encode()) <= self._limits.max_tag_bytes:
                limit = f"1..{self._limits.max_tag_bytes} bytes"
                raise InvalidRequest("a tag is empty or too long", field="tags", limit=limit)


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
