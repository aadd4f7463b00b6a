"""Outgoing calls: every one has a deadline, carries trace and identity, and raises errors of our own tree.

gRPC for Python forwards neither deadline, nor trace, nor cancellation. Here the deadline is what the incoming call has
left, less a margin, and never more than the cap; a stream is always cancelled when its block is left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meshkit import errors
from meshkit.identity import PRINCIPAL_KEY, TENANT_KEY
from meshkit.incoming import current_call
from meshkit.status import from_rpc_error
from meshkit.telemetry import names

MARGIN_S = 0.02
"""What a hop keeps for itself of the caller's deadline."""

_PROPAGATOR = TraceContextTextMapPropagator()


class Calls:
    """Makes calls in the name of the incoming call. `tracer` None: no client spans, the trace is still carried on."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer

    async def unary(self, method: Any, request: Any, *, timeout_s: float, peer: str = "peer") -> Any:
        """Call a stub's unary method. Raises a MeshError; DeadlineExceeded at once where no time is left."""
        time_left_s = _deadline_s(timeout_s)
        with self._span(method, peer) as span:
            try:
                return await method(request, timeout=time_left_s, metadata=_metadata(span))
            except (grpc.aio.AioRpcError, asyncio.CancelledError) as problem:
                raise _translated(problem, span, peer) from None

    @contextlib.asynccontextmanager
    async def stream(
        self, method: Any, request: Any, *, timeout_s: float | None = None, peer: str = "peer"
    ) -> AsyncIterator[Stream]:
        """Call a stub's streaming method; iterate over the messages inside the block. Leaving the block cancels it."""
        time_left_s = _deadline_s(timeout_s)
        with self._span(method, peer) as span:
            call = method(request, timeout=time_left_s, metadata=_metadata(span))
            try:
                yield Stream(call, span, peer)
            finally:
                call.cancel()

    @contextlib.contextmanager
    def _span(self, method: Any, peer: str) -> Any:
        if self._tracer is None:
            yield trace.get_current_span()
            return
        # The stub's multi-callable knows its own path; there is no public name for it.
        path = cast(bytes, method._method).decode()
        attributes = {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: path[1:], names.SERVER_ADDRESS: peer}
        span = self._tracer.start_span(path[1:], kind=SpanKind.CLIENT, attributes=attributes)
        try:
            yield span
        finally:
            span.end()


class Stream:
    """The messages of one call, for one reader."""

    def __init__(self, call: Any, span: Span, peer: str) -> None:
        self._call = call
        self._messages = aiter(call)
        self._span = span
        self._peer = peer
        self._is_cancelled = False

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._messages)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as problem:
            error = _translated(problem, self._span, self._peer)
            if self._is_cancelled and isinstance(error, errors.BackendDown):
                error = errors.Cancelled("the call was cancelled by its caller")
            raise error from None

    def cancel(self) -> None:
        """End the call, from any task; its reader gets Cancelled."""
        self._is_cancelled = True
        self._call.cancel()


def _translated(problem: grpc.aio.AioRpcError | asyncio.CancelledError, span: Span, peer: str) -> BaseException:
    if isinstance(problem, grpc.aio.AioRpcError):
        span.set_status(StatusCode.ERROR, problem.code().name)
        return from_rpc_error(problem, peer)
    span.set_status(StatusCode.ERROR, grpc.StatusCode.CANCELLED.name)
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return problem
    # Nobody cancelled this task: gRPC says so of a channel that is closed under a call.
    return errors.BackendDown(f"the connection to {peer} was closed")


def _deadline_s(cap_s: float | None) -> float | None:
    remaining_s = current_call().remaining_s()
    bounds_s = [] if cap_s is None else [cap_s]
    if remaining_s is not None:
        bounds_s.append(remaining_s - MARGIN_S)
    if not bounds_s:
        return None
    # gRPC takes 0 for "no deadline".
    if min(bounds_s) <= 0:
        raise errors.DeadlineExceeded("no time is left for this call")
    return min(bounds_s)


def _metadata(span: Span) -> tuple[tuple[str, str], ...]:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    call = current_call()
    if call.method:
        carrier[TENANT_KEY] = call.tenant
        if call.principal:
            carrier[PRINCIPAL_KEY] = call.principal
    return tuple(carrier.items())
