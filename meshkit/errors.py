"""The one tree of errors. Domain code raises them; `meshkit.status` alone knows gRPC's codes.

MeshError
|-- InvalidRequest      the caller fixes the request          INVALID_ARGUMENT
|-- NotFound            there is none                         NOT_FOUND
|-- Unauthenticated     who calls is not known                UNAUTHENTICATED
|-- Forbidden           who calls may not                     PERMISSION_DENIED
|-- Overloaded          full now, wait as told                RESOURCE_EXHAUSTED
|-- QuotaExceeded       the caller's own limit                RESOURCE_EXHAUSTED
|-- NotReady            not yet, or draining                  UNAVAILABLE
|-- BackendDown         a peer is gone                        UNAVAILABLE
|-- WrongState          change the state first                FAILED_PRECONDITION
|-- Conflict            restart the sequence                  ABORTED
|-- DeadlineExceeded    time ran out                          DEADLINE_EXCEEDED
|-- Cancelled           the caller went away                  CANCELLED
|-- NotBuilt            promised, not written yet             UNIMPLEMENTED
`-- Internal            a bug in a peer                       INTERNAL
"""

from __future__ import annotations


class MeshError(Exception):
    """Base of every error with a meaning for the caller, who reads its message: no secrets, no prompt text."""

    reason = "INTERNAL"
    """`google.rpc.ErrorInfo.reason`, from this closed list."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(MeshError):
    """A field of the request is outside its limit."""

    reason = "INVALID_REQUEST"

    def __init__(self, message: str, *, field: str = "", limit: str = "") -> None:
        names_field = not field or message.startswith((f"{field}:", f"{field} "))
        names_limit = not limit or f"(limit: {limit})" in message
        named = message if names_field else f"{field}: {message}"
        super().__init__(named if names_limit else f"{named} (limit: {limit})")
        self.field = field
        self.limit = limit


class NotFound(MeshError):
    """The thing that was named does not exist."""

    reason = "NOT_FOUND"


class Unauthenticated(MeshError):
    """The caller's identity is missing or not valid."""

    reason = "UNAUTHENTICATED"


class Forbidden(MeshError):
    """The caller is known and may not do this."""

    reason = "FORBIDDEN"


class Overloaded(MeshError):
    """The service is full now; nothing was started."""

    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaExceeded(MeshError):
    """The caller's own limit is used up."""

    reason = "QUOTA_EXCEEDED"

    def __init__(self, message: str, *, subject: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.subject = subject
        self.retry_after_s = retry_after_s


class NotReady(MeshError):
    """The service is loading or draining."""

    reason = "NOT_READY"


class BackendDown(MeshError):
    """A peer that this request needs can't be reached or died. `sent_token_count`: of a stream, how much had come."""

    reason = "BACKEND_DOWN"

    def __init__(self, message: str, *, sent_token_count: int | None = None) -> None:
        super().__init__(message if sent_token_count is None else message + _sent(sent_token_count))
        self.cause = message
        self.sent_token_count = sent_token_count

    @classmethod
    def heard(cls, message: str, sent_token_count: int | None) -> BackendDown:
        """The one whose whole message this is."""
        cause = message if sent_token_count is None else message.removesuffix(_sent(sent_token_count))
        return cls(cause, sent_token_count=sent_token_count)


class WrongState(MeshError):
    """The request is valid, but not in this state."""

    reason = "WRONG_STATE"


class Conflict(MeshError):
    """Another request changed the same thing."""

    reason = "CONFLICT"


class DeadlineExceeded(MeshError):
    """The request's time ran out."""

    reason = "DEADLINE_EXCEEDED"


class Cancelled(MeshError):
    """The caller cancelled the request."""

    reason = "CANCELLED"


class NotBuilt(MeshError):
    """The contract promises it and this version does not have it; the message says what is missing."""

    reason = "NOT_BUILT"


class Internal(MeshError):
    """A bug, here or in a peer. Its text never reaches callers."""

    reason = "INTERNAL"


def _sent(token_count: int) -> str:
    return f"; {token_count} tokens had been sent"
