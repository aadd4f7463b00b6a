"""The call that is being served: who calls, until when, in which trace. Set by the interceptor, read anywhere below."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass

DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingCall:
    """One RPC in progress. Times are monotonic seconds."""

    method: str
    tenant: str = DEFAULT_TENANT
    principal: str = ""
    trace_id: str = ""
    arrived_at: float = 0.0
    deadline_at: float | None = None

    def remaining_s(self) -> float | None:
        """Seconds until the caller's deadline; None where there is none."""
        return None if self.deadline_at is None else self.deadline_at - time.monotonic()


_current: ContextVar[IncomingCall | None] = ContextVar("mesh_incoming_call", default=None)
_OUTSIDE = IncomingCall(method="")


def current_call() -> IncomingCall:
    """The RPC that this task serves; outside of one, a call of tenant `default` without a deadline."""
    return _current.get() or _OUTSIDE


def set_current_call(call: IncomingCall) -> None:
    """For interceptors: what `current_call` returns in this task from now on."""
    _current.set(call)
