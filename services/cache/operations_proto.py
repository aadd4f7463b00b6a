"""Translates what operators ask of the cache, and what they get, between the contract and the domain."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.common.v1 import common_pb2
from meshkit.errors import InvalidRequest
from services.cache.audit import Record
from services.cache.entry import Entry
from services.cache.epochs import EVERYTHING, Kind, Selector
from services.cache.invalidations import Order, Outcome
from services.cache.request_key import DIGEST_BYTES
from services.cache.tally import TierTally
from services.cache.tiered import TierName
from services.cache.transfer import Fate, Portable

MAX_TEXT_BYTES = 256
MAX_REASON_BYTES = 1000
_COMPLETE = (common_pb2.FINISH_REASON_STOP, common_pb2.FINISH_REASON_LENGTH, common_pb2.FINISH_REASON_TOOL_CALLS)
_TIERS = {TierName.L1: pb.CACHE_TIER_L1, TierName.L2: pb.CACHE_TIER_L2, TierName.L3: pb.CACHE_TIER_L3}
_KINDS = {"revision": Kind.REVISION, "tag": Kind.TAG}


def invalidation(request: pb.InvalidateRequest) -> Order:
    """What to invalidate. Raises InvalidRequest."""
    return Order(
        selector=_selector(request),
        is_applied=request.apply,
        reason=_text("reason", request.reason, MAX_REASON_BYTES),
        idempotency_key=_text("idempotency_key", request.idempotency_key, MAX_TEXT_BYTES),
    )


def bump(request: pb.BumpEpochRequest) -> Order:
    """Everything. Raises InvalidRequest."""
    return Order(
        is_applied=True,
        reason=_text("reason", request.reason, MAX_REASON_BYTES),
        idempotency_key=_text("idempotency_key", request.idempotency_key, MAX_TEXT_BYTES),
    )


def invalidated(outcome: Outcome) -> pb.InvalidateResponse:
    found = outcome.tally
    return pb.InvalidateResponse(
        entry_count=found.entry_count,
        size_bytes=found.size_bytes,
        tiers=[_tier_count(one) for one in found.tiers],
        exact=found.is_exact,
        epoch=outcome.epoch,
        shared=outcome.is_shared,
    )


def record(kept: Record) -> pb.InvalidationRecord:
    return pb.InvalidationRecord(
        at=_timestamp(kept.at),
        principal=kept.principal,
        selector=kept.selector,
        value=kept.value,
        reason=kept.reason,
        epoch=kept.epoch,
        entry_count=kept.entry_count,
        size_bytes=kept.size_bytes,
        exact=kept.is_exact,
        shared=kept.is_shared,
    )


def exported(portable: Portable) -> pb.ExportedEntry:
    """Raises DecodeError where the payload is not an answer that this version can read."""
    entry = portable.entry
    return pb.ExportedEntry(
        digest=portable.digest,
        answer=pb.StoredAnswer.FromString(entry.payload),
        tags=entry.tags,
        stored_at=_timestamp(entry.stored_at),
        fresh_until=_timestamp(entry.fresh_until),
        expires_at=_timestamp(entry.expires_at),
        epoch=entry.epoch,
    )


def portable(entry: pb.ExportedEntry) -> Portable:
    """An answer that is not complete has no payload here, and is refused for it."""
    payload = entry.answer.SerializeToString() if entry.answer.finish_reason in _COMPLETE else b""
    return Portable(
        digest=entry.digest,
        entry=Entry(
            payload=payload,
            stored_at=_seconds(entry.stored_at),
            fresh_until=_seconds(entry.fresh_until),
            expires_at=_seconds(entry.expires_at),
            epoch=max(0, entry.epoch),
            revision=entry.answer.revision,
            tags=tuple(entry.tags),
        ),
    )


def imported(fates: list[Fate]) -> pb.ImportResponse:
    return pb.ImportResponse(
        stored_count=fates.count(Fate.STORED),
        expired_count=fates.count(Fate.EXPIRED),
        invalidated_count=fates.count(Fate.INVALIDATED),
        refused_count=fates.count(Fate.REFUSED),
    )


def _selector(request: pb.InvalidateRequest) -> Selector:
    form = request.WhichOneof("selector")
    if form == "whole_tenant" and request.whole_tenant:
        return EVERYTHING
    if form == "digest_prefix":
        if not 0 < len(request.digest_prefix) <= DIGEST_BYTES:
            limit = f"1..{DIGEST_BYTES} bytes"
            raise InvalidRequest(f"{len(request.digest_prefix)} bytes", field="digest_prefix", limit=limit)
        return Selector(kind=Kind.DIGEST_PREFIX, value=request.digest_prefix)
    if form in _KINDS:
        text = _text(form, getattr(request, form), MAX_TEXT_BYTES)
        if not text:
            raise InvalidRequest("must not be empty", field=form, limit=f"1..{MAX_TEXT_BYTES} bytes")
        return Selector(kind=_KINDS[form], value=text.encode())
    limit = "one of whole_tenant = true, revision, tag, digest_prefix"
    raise InvalidRequest("is missing", field="selector", limit=limit)


def _text(field: str, value: str, limit: int) -> str:
    if len(value.encode()) > limit:
        raise InvalidRequest(f"{len(value.encode())} bytes is too long", field=field, limit=f"at most {limit} bytes")
    return value


def _tier_count(one: TierTally) -> pb.TierCount:
    return pb.TierCount(
        tier=_TIERS[one.tier],
        entry_count=one.entry_count,
        size_bytes=one.size_bytes,
        complete=one.is_complete,
    )


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(int(seconds * 1e6))
    return stamp


def _seconds(stamp: Timestamp) -> float:
    return float(stamp.seconds) + stamp.nanos / 1e9
