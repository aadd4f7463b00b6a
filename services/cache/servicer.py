"""Translates the cache's contract to its domain and back; checks what only the message can show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import IntEnum
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.cache.v1.cache_service_pb2_grpc import CacheServiceServicer
from mesh.common.v1 import common_pb2
from meshkit.errors import InvalidRequest, NotBuilt
from meshkit.incoming import current_call
from meshkit.telemetry import names
from meshkit.telemetry.tracing import set_attributes
from services.cache.entry import Finish
from services.cache.plain import plain_message
from services.cache.response_cache import Answer, Caller, Mode, Query, ResponseCache, Scope
from services.cache.semantic.translation import answer_text, note_verdict
from services.cache.tiered import Found, TierName, TierReport

_FINISHES = {
    common_pb2.FINISH_REASON_STOP: Finish.STOP,
    common_pb2.FINISH_REASON_LENGTH: Finish.LENGTH,
    common_pb2.FINISH_REASON_TOOL_CALLS: Finish.TOOL_CALLS,
}
_TIERS = {TierName.L1: pb.CACHE_TIER_L1, TierName.L2: pb.CACHE_TIER_L2, TierName.L3: pb.CACHE_TIER_L3}
_NOT_IN_REQUEST = ("scope", "session_id")

E = TypeVar("E", bound=IntEnum)


class CacheServicer(CacheServiceServicer):
    """The contract over one ResponseCache."""

    def __init__(self, cache: ResponseCache, *, started_at: float) -> None:
        self._cache = cache
        self._started_at = started_at

    async def Lookup(self, request: pb.LookupRequest, context: Any) -> pb.LookupResponse:
        caller, query = _caller(), _query(request)
        looked = await self._cache.lookup(caller, query)
        response = pb.LookupResponse(digest=looked.digest)
        if not isinstance(looked.result, Found):
            _note_miss(response, looked.result.reason)
            note_verdict(response.miss, looked.verdict)
            return response
        if not _fill_hit(response.hit, looked.result):
            await self._cache.discard(caller, looked.digest, looked.result)
            _note_miss(response, "unreadable")
            return response
        note_verdict(response.hit, looked.verdict)
        set_attributes({names.CACHE_STATUS: "hit", names.CACHE_TIER: looked.result.tier.name})
        return response

    async def Commit(self, request: pb.CommitRequest, context: Any) -> pb.CommitResponse:
        if not request.HasField("answer"):
            raise InvalidRequest("is missing", field="answer", limit="a StoredAnswer")
        if request.lease_id:
            raise InvalidRequest("there are no leases yet; leave it empty", field="lease_id", limit="empty")
        reason = await self._cache.commit(_caller(), request.digest, _answer(request))
        set_attributes({names.CACHE_REASON: reason or "stored"})
        return pb.CommitResponse(stored=not reason, reason=reason)

    async def Stats(self, request: pb.StatsRequest, context: Any) -> pb.StatsResponse:
        reports = await self._cache.report()
        started_at = Timestamp()
        started_at.FromMilliseconds(int(self._started_at * 1000))
        return pb.StatsResponse(tiers=[_tier_stats(report) for report in reports], started_at=started_at)

    async def Abandon(self, request: pb.AbandonRequest, context: Any) -> pb.AbandonResponse:
        raise NotBuilt("leases are not built yet: Lookup never gives one")

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewResponse:
        raise NotBuilt("leases are not built yet: Lookup never gives one")

    async def Follow(self, request: pb.FollowRequest, context: Any) -> AsyncIterator[pb.FollowResponse]:
        raise NotBuilt("leases are not built yet: Lookup never gives one")
        yield pb.FollowResponse()

    async def Invalidate(self, request: pb.InvalidateRequest, context: Any) -> pb.InvalidateResponse:
        raise NotBuilt("invalidation is not built yet; entries end with their time to live")

    async def BumpEpoch(self, request: pb.BumpEpochRequest, context: Any) -> pb.BumpEpochResponse:
        raise NotBuilt("epochs are not built yet; entries end with their time to live")

    async def ReportFalseHit(self, request: pb.ReportFalseHitRequest, context: Any) -> pb.ReportFalseHitResponse:
        return pb.ReportFalseHitResponse(known=self._cache.blame(_caller(), request.digest))


def _caller() -> Caller:
    call = current_call()
    return Caller(tenant=call.tenant, principal=call.principal)


def _query(request: pb.LookupRequest) -> Query:
    key = request.key
    if not request.HasField("key"):
        raise InvalidRequest("is missing", field="key", limit="a CacheKey")
    if not key.model:
        raise InvalidRequest("must not be empty", field="key.model", limit="at least 1 character")
    _check_prompt(key.prompt)
    if request.HasField("max_error_rate") and not 0 <= request.max_error_rate <= 1:
        raise InvalidRequest(f"{request.max_error_rate} is out of range", field="max_error_rate", limit="0..1")
    plain = plain_message(key, "key")
    return Query(
        request={name: value for name, value in plain.items() if name not in _NOT_IN_REQUEST},
        mode=_member(Mode, request.mode, "mode"),
        scope=_member(Scope, key.scope, "key.scope"),
        session_id=key.session_id,
        max_age_s=_seconds(request.max_age, "max_age") if request.HasField("max_age") else None,
        max_error_rate=request.max_error_rate if request.HasField("max_error_rate") else None,
    )


def _check_prompt(prompt: common_pb2.Prompt) -> None:
    content = {"messages": prompt.messages.messages, "text": prompt.text, "token_ids": prompt.token_ids.ids}
    form = prompt.WhichOneof("input")
    if form is None or not content[form]:
        raise InvalidRequest("must not be empty", field=f"key.prompt.{form or 'input'}", limit="at least 1 of its kind")


def _answer(request: pb.CommitRequest) -> Answer:
    return Answer(
        payload=request.answer.SerializeToString(),
        finish=_FINISHES.get(request.answer.finish_reason, Finish.INCOMPLETE),
        revision=request.answer.revision,
        tags=tuple(request.tags),
        ttl_s=_seconds(request.ttl, "ttl") if request.HasField("ttl") else None,
        said=lambda: answer_text(request.answer),
    )


def _seconds(duration: Duration, field: str) -> float:
    seconds = float(duration.seconds) + duration.nanos / 1e9
    if seconds < 0:
        raise InvalidRequest("must not be negative", field=field, limit="at least 0 s")
    return seconds


def _member(kind: type[E], number: int, field: str) -> E:
    try:
        return kind(number)
    except ValueError:
        allowed = ", ".join(member.name for member in kind)
        raise InvalidRequest(f"{number} is not known", field=field, limit=f"one of {allowed}") from None


def _note_miss(response: pb.LookupResponse, reason: str) -> None:
    response.miss.reason = reason
    set_attributes({names.CACHE_STATUS: "miss", names.CACHE_REASON: reason})


def _fill_hit(hit: pb.Hit, found: Found) -> bool:
    """False where the payload is not an answer that this version can read."""
    try:
        hit.answer.ParseFromString(found.entry.payload)
    except DecodeError:
        return False
    hit.tier = _TIERS[found.tier]
    hit.age.FromMicroseconds(int(found.age_s * 1e6))
    return True


def _tier_stats(report: TierReport) -> pb.TierStats:
    return pb.TierStats(
        tier=_TIERS[report.name],
        lookup_count=report.counters.lookup_count,
        hit_count=report.counters.hit_count,
        entry_count=report.size.entry_count,
        size_bytes=report.size.size_bytes,
        budget_bytes=report.size.budget_bytes,
        eviction_count=report.size.eviction_count,
        unreadable_count=report.counters.unreadable_count,
        error_count=report.counters.error_count,
    )
