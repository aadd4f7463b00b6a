"""Errors to gRPC statuses with google.rpc details, and back. The one place that knows the codes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from meshkit import errors

DOMAIN = "inference-mesh"
_DETAILS_KEY = "grpc-status-details-bin"
# Trailing metadata over 8 KiB never reaches the caller, and a message may quote what the caller sent. Four texts at
# most, one of them percent-encoded to three times its size.
_LONGEST_TEXT_BYTES = 600
_LONGEST_RETRY_AFTER_S = 3600.0

CODE_OF_ERROR: dict[type[errors.MeshError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotReady: grpc.StatusCode.UNAVAILABLE,
    errors.BackendDown: grpc.StatusCode.UNAVAILABLE,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.NotBuilt: grpc.StatusCode.UNIMPLEMENTED,
    errors.Internal: grpc.StatusCode.INTERNAL,
    errors.MeshError: grpc.StatusCode.INTERNAL,
}

_ERROR_OF_CODE: dict[grpc.StatusCode, type[errors.MeshError]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.Forbidden,
    grpc.StatusCode.FAILED_PRECONDITION: errors.WrongState,
    grpc.StatusCode.ABORTED: errors.Conflict,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.UNIMPLEMENTED: errors.NotBuilt,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a failed RPC ends."""

    code: grpc.StatusCode
    message: str
    reason: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


def answer_of(error: errors.MeshError) -> Answer:
    """The status, the text and the google.rpc details of an error; never raises."""
    message = _text(error.message)
    status = status_pb2.Status(code=code_of(error).value[0], message=message)
    for detail in _details(error, message):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    trailing = ((_DETAILS_KEY, status.SerializeToString()),)
    return Answer(code=code_of(error), message=message, reason=error.reason, trailing_metadata=trailing)


def code_of(error: errors.MeshError) -> grpc.StatusCode:
    """The status code of an error, or of the nearest error that it specialises."""
    return next(CODE_OF_ERROR[kind] for kind in type(error).__mro__ if kind in CODE_OF_ERROR)


def from_rpc_error(rpc_error: grpc.aio.AioRpcError, peer: str) -> errors.MeshError:
    """The error that a peer's status stands for, so that it can be raised again here."""
    message = rpc_error.details() or rpc_error.code().name
    details = _parse_details(rpc_error.trailing_metadata())
    code = rpc_error.code()
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return errors.InvalidRequest(message, field=details.field, limit=details.limit)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if details.quota_subject:
            return errors.QuotaExceeded(message, subject=details.quota_subject, retry_after_s=details.retry_after_s)
        return errors.Overloaded(message, retry_after_s=1.0 if details.retry_after_s is None else details.retry_after_s)
    if code is grpc.StatusCode.UNAVAILABLE:
        if details.reason == errors.NotReady.reason:
            return errors.NotReady(message)
        if not details.reason:
            return errors.BackendDown(f"{peer} can't be reached")
        return errors.BackendDown.heard(message, details.sent_token_count)
    if code is grpc.StatusCode.CANCELLED:
        # Without a reason it was not a handler that said so: the connection was closed under the call.
        return errors.Cancelled(message) if details.reason else errors.BackendDown(f"{peer} broke the call off")
    if known := _ERROR_OF_CODE.get(code):
        return known(message)
    return errors.Internal(f"{peer} answered {code.name}")


def _details(error: errors.MeshError, message: str) -> Iterable[Message]:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if isinstance(error, errors.InvalidRequest):
        info.metadata.update({"limit": _text(error.limit)} if error.limit else {})
        info.metadata.update({"field": _text(error.field)} if error.field else {})
    if isinstance(error, errors.BackendDown) and error.sent_token_count is not None:
        info.metadata["sent_tokens"] = str(error.sent_token_count)
    yield info
    if isinstance(error, errors.InvalidRequest) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=_text(error.field), description=message)
        yield error_details_pb2.BadRequest(field_violations=[violation])
    if isinstance(error, errors.QuotaExceeded):
        quota = error_details_pb2.QuotaFailure.Violation(subject=_text(error.subject), description=message)
        yield error_details_pb2.QuotaFailure(violations=[quota])
    if (retry_after_s := getattr(error, "retry_after_s", None)) is not None:
        yield error_details_pb2.RetryInfo(retry_delay=_duration(retry_after_s))


def _duration(seconds: float) -> duration_pb2.Duration:
    bounded_s = min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else _LONGEST_RETRY_AFTER_S
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(bounded_s * 1e9))
    return delay


def _text(text: str) -> str:
    """What protobuf and metadata can carry: no lone surrogates, bounded."""
    data = text.encode("utf-8", "replace")
    if len(data) <= _LONGEST_TEXT_BYTES:
        return data.decode("utf-8")
    return data[:_LONGEST_TEXT_BYTES].decode("utf-8", "ignore") + "..."


class _Details:
    reason = ""
    field = ""
    limit = ""
    quota_subject = ""
    sent_token_count: int | None = None
    retry_after_s: float | None = None


def _parse_details(metadata: Any) -> _Details:
    """Read what is known; a peer of another version may send more, and a stranger may send anything."""
    found = _Details()
    raw = next((value for key, value in metadata or () if key == _DETAILS_KEY), None)
    try:
        status = status_pb2.Status.FromString(raw if isinstance(raw, bytes) else b"")
        for packed in status.details:
            _note(packed, found)
    except DecodeError:
        pass
    return found


def _note(packed: any_pb2.Any, found: _Details) -> None:
    info, retry, quota = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
    if packed.Unpack(info):
        found.reason, found.field, found.limit = info.reason, info.metadata["field"], info.metadata["limit"]
        sent = info.metadata["sent_tokens"]
        found.sent_token_count = int(sent) if sent.isdecimal() else None
    elif packed.Unpack(retry):
        found.retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    elif packed.Unpack(quota) and quota.violations:
        found.quota_subject = quota.violations[0].subject
