"""Translates the cache's contract to its domain and back; checks what only the message can show."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from enum import IntEnum
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.cache.v1.cache_service_pb2_grpc import CacheServiceServicer
from mesh.common.v1 import common_pb2
from meshkit.errors import BackendDown, Conflict, InvalidRequest, NotFound
from meshkit.incoming import current_call
from meshkit.telemetry import names
from meshkit.telemetry.tracing import set_attributes
from services.cache import operations_proto
from services.cache.entry import Finish
from services.cache.flight import LostLease
from services.cache.invalidations import Invalidations
from services.cache.plain import plain_message
from services.cache.prefixes.placement import Placement
from services.cache.prefixes.prefix_index import PromptBlocks
from services.cache.response_cache import Answer, Caller, Mode, Query, ResponseCache, Scope, flight_key
from services.cache.semantic.translation import answer_text, note_hit, note_verdict
from services.cache.single_flight import FlightTicket, Handover, LeaseId, SingleFlight
from services.cache.tier import TierUnavailable
from services.cache.tiered import Found, TierName, TierReport
from services.cache.transfer import Transfer
from services.cache.watch_flight import Event, Final, FlightGone

_FINISHES = {
    common_pb2.FINISH_REASON_STOP: Finish.STOP,
    common_pb2.FINISH_REASON_LENGTH: Finish.LENGTH,
    common_pb2.FINISH_REASON_TOOL_CALLS: Finish.TOOL_CALLS,
}
_TIERS = {TierName.L1: pb.CACHE_TIER_L1, TierName.L2: pb.CACHE_TIER_L2, TierName.L3: pb.CACHE_TIER_L3}
_NOT_IN_REQUEST = ("scope", "session_id")
_EXPORT_ENTRIES = 64
_EXPORT_BYTES = 256 * 1024
_LONGEST_SWEEP_S = 60.0
_REPLY_S = 0.5
"""Kept of a caller's deadline for the reply."""

E = TypeVar("E", bound=IntEnum)


class CacheServicer(CacheServiceServicer):
    """The contract over one ResponseCache."""

    def __init__(
        self,
        cache: ResponseCache,
        flights: SingleFlight,
        *,
        invalidations: Invalidations,
        transfer: Transfer,
        placement: Placement | None,
        started_at: float,
    ) -> None:
        self._cache = cache
        self._flights = flights
        self._invalidations = invalidations
        self._transfer = transfer
        self._placement = placement
        self._started_at = started_at

    async def Lookup(self, request: pb.LookupRequest, context: Any) -> pb.LookupResponse:
        caller, query = _caller(), _query(request)
        looked = await self._cache.lookup(caller, query)
        response = pb.LookupResponse(digest=looked.digest)
        note_verdict(response, looked.verdict)
        if request.wants_prefix_hint and not isinstance(looked.result, Found):
            self._note_prefix(response, caller, query)
        if isinstance(looked.result, FlightTicket):
            self._note_ticket(response, looked.result)
            return response
        if not isinstance(looked.result, Found):
            _note_miss(response, looked.result.reason)
            return response
        if not _fill_hit(response.hit, looked.result):
            await self._cache.discard(caller, looked.digest, looked.result)
            _note_miss(response, "unreadable")
            return response
        note_hit(response.hit, looked.verdict)
        if looked.regeneration is not None:
            response.regenerate.CopyFrom(self._lead(looked.regeneration))
        set_attributes({names.CACHE_STATUS: "hit", names.CACHE_TIER: looked.result.tier.name})
        return response

    async def Commit(self, request: pb.CommitRequest, context: Any) -> pb.CommitResponse:
        if not request.HasField("answer"):
            raise InvalidRequest("is missing", field="answer", limit="a StoredAnswer")
        caller = _caller()
        lease_id = LeaseId.parse(request.lease_id) if request.lease_id else None
        if lease_id is not None and lease_id.digest != request.digest:
            raise InvalidRequest("is of another digest", field="lease_id", limit="the lease of the same Lookup")
        reason = await self._cache.commit(caller, request.digest, _answer(request))
        if lease_id is not None:
            await self._finish(caller, lease_id, request.answer)
        set_attributes({names.CACHE_REASON: reason or "stored"})
        return pb.CommitResponse(stored=not reason, reason=reason)

    async def Stats(self, request: pb.StatsRequest, context: Any) -> pb.StatsResponse:
        reports = await self._cache.report()
        started_at = Timestamp()
        started_at.FromMilliseconds(int(self._started_at * 1000))
        return pb.StatsResponse(tiers=[_tier_stats(report) for report in reports], started_at=started_at)

    async def Abandon(self, request: pb.AbandonRequest, context: Any) -> pb.AbandonResponse:
        lease_id = LeaseId.parse(request.lease_id)
        await self._flights.release(flight_key(_caller(), lease_id.digest), lease_id)
        return pb.AbandonResponse()

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewResponse:
        if request.first_event < 0:
            raise InvalidRequest(f"{request.first_event} is negative", field="first_event", limit="at least 0")
        lease_id = LeaseId.parse(request.lease_id)
        events = tuple(event.SerializeToString() for event in request.events)
        try:
            key = flight_key(_caller(), lease_id.digest)
            is_followed = await self._flights.append(key, lease_id, request.first_event, events)
        except LostLease:
            raise Conflict("the lease was lost: it was not renewed in time, or has ended") from None
        except TierUnavailable as error:
            raise BackendDown(f"the flight can't be kept: {error}") from None
        response = pb.RenewResponse(is_followed=is_followed)
        response.ttl.FromNanoseconds(int(self._flights.ttl_s * 1e9))
        return response

    async def Follow(self, request: pb.FollowRequest, context: Any) -> AsyncIterator[pb.FollowResponse]:
        if request.from_event < 0:
            raise InvalidRequest(f"{request.from_event} is negative", field="from_event", limit="at least 0")
        lease_id = LeaseId.parse(request.lease_id)
        entries = self._flights.follow(flight_key(_caller(), lease_id.digest), lease_id, request.from_event)
        try:
            async with contextlib.aclosing(entries):
                async for entry in entries:
                    yield self._followed(entry)
        except (FlightGone, TierUnavailable):
            raise NotFound("the flight is over and was not finished, or its place does not answer") from None

    async def Invalidate(self, request: pb.InvalidateRequest, context: Any) -> pb.InvalidateResponse:
        order, time_s = operations_proto.invalidation(request), _sweep_time_s()
        return operations_proto.invalidated(await self._invalidations.invalidate(_caller(), order, time_s=time_s))

    async def BumpEpoch(self, request: pb.BumpEpochRequest, context: Any) -> pb.BumpEpochResponse:
        outcome = await self._invalidations.bump(_caller(), operations_proto.bump(request))
        return pb.BumpEpochResponse(epoch=outcome.epoch, shared=outcome.is_shared)

    async def ListInvalidations(
        self, request: pb.ListInvalidationsRequest, context: Any
    ) -> pb.ListInvalidationsResponse:
        records = self._invalidations.records(_caller())
        return pb.ListInvalidationsResponse(records=[operations_proto.record(one) for one in records])

    async def Export(self, request: pb.ExportRequest, context: Any) -> AsyncIterator[pb.ExportResponse]:
        part, part_bytes = pb.ExportResponse(), 0
        async for portable, expected_count in self._transfer.entries(_caller()):
            part.expected_count = expected_count
            with contextlib.suppress(DecodeError):
                part.entries.append(operations_proto.exported(portable))
                part_bytes += portable.entry.size_bytes
            if len(part.entries) >= _EXPORT_ENTRIES or part_bytes >= _EXPORT_BYTES:
                yield part
                part, part_bytes = pb.ExportResponse(), 0
        if part.entries:
            yield part

    async def Import(self, request: pb.ImportRequest, context: Any) -> pb.ImportResponse:
        portables = [operations_proto.portable(entry) for entry in request.entries]
        fates = await self._transfer.take(_caller(), portables, as_new=request.as_new)
        return operations_proto.imported(fates)

    async def ReportFalseHit(self, request: pb.ReportFalseHitRequest, context: Any) -> pb.ReportFalseHitResponse:
        return pb.ReportFalseHitResponse(known=self._cache.blame(_caller(), request.digest))

    async def NotePrefix(self, request: pb.NotePrefixRequest, context: Any) -> pb.NotePrefixResponse:
        if self._placement is not None:
            blocks = PromptBlocks(
                hashes=request.block_hashes, block_tokens=request.block_tokens, prompt_tokens=request.prompt_tokens
            )
            self._placement.note(_caller().tenant, request.marks, blocks)
        return pb.NotePrefixResponse()

    def _note_prefix(self, response: pb.LookupResponse, caller: Caller, query: Query) -> None:
        if self._placement is None:
            return
        hint = self._placement.hint(caller.tenant, query.request)
        response.prefix.marks, response.prefix.is_noted = hint.marks, hint.is_noted
        for holder in hint.holders:
            response.prefix.holders.add(instance=holder.instance_id, resident_tokens=holder.resident_tokens)
        set_attributes({names.RESIDENT_TOKENS: hint.holders[0].resident_tokens if hint.holders else 0})

    def _note_ticket(self, response: pb.LookupResponse, ticket: FlightTicket) -> None:
        if ticket.leads:
            response.lead.CopyFrom(self._lead(ticket.lease_id))
        else:
            response.follow.lease_id = ticket.lease_id
        set_attributes({names.CACHE_STATUS: "lead" if ticket.leads else "follow"})

    def _lead(self, lease_id: str) -> pb.Lead:
        lead = pb.Lead(lease_id=lease_id)
        lead.ttl.FromNanoseconds(int(self._flights.ttl_s * 1e9))
        return lead

    def _followed(self, entry: Event | Final | Handover) -> pb.FollowResponse:
        if isinstance(entry, Event):
            return pb.FollowResponse(delta=pb.StoredEvent.FromString(entry.payload))
        if isinstance(entry, Final):
            return pb.FollowResponse(finished=pb.StoredAnswer.FromString(entry.payload))
        return pb.FollowResponse(lead=self._lead(entry.lease_id))

    async def _finish(self, caller: Caller, lease_id: LeaseId, answer: pb.StoredAnswer) -> None:
        """Followers have the events already; a leader that was replaced has nothing to finish."""
        final = pb.StoredAnswer()
        final.CopyFrom(answer)
        del final.events[:]
        try:
            await self._flights.finish(flight_key(caller, lease_id.digest), lease_id, final.SerializeToString())
        except (LostLease, TierUnavailable):
            set_attributes({names.CACHE_STATUS: "lease lost"})


def _caller() -> Caller:
    call = current_call()
    return Caller(tenant=call.tenant, principal=call.principal)


def _sweep_time_s() -> float:
    remaining_s = current_call().remaining_s()
    return _LONGEST_SWEEP_S if remaining_s is None else max(0.05, remaining_s - _REPLY_S)


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
        shares_generation=request.single_flight,
        regenerates_stale=request.regenerates_stale,
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
    hit.stale = found.is_stale
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
