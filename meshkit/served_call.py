"""One RPC from arrival to its one status: who calls, its span, its metrics, and what a failure tells the caller."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any

import grpc
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meshkit import errors
from meshkit.identity import identify
from meshkit.incoming import IncomingCall, set_current_call
from meshkit.rpc_metrics import MethodMetrics
from meshkit.settings import IdentitySettings
from meshkit.status import answer_of
from meshkit.telemetry import logs, names

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACEPARENT = "traceparent"
_log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSite:
    """What all calls of one method share."""

    tracer: Tracer
    identity: IdentitySettings
    method: str = ""

    def of(self, method: str) -> CallSite:
        """The same for another method, such as `/mesh.cache.v1.CacheService/Lookup`."""
        return replace(self, method=method)


class ServedCall:
    """The span, the metrics and the status of one RPC. `open`, then exactly one of `succeed` and `fail`."""

    def __init__(self, site: CallSite, metrics: MethodMetrics, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._site = site
        self._metrics = metrics
        self._context = context
        self._arrived_at = time.monotonic()
        self._metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        self._span = self._start_span()
        self._span_context = self._span.get_span_context()
        self._trace_id = f"{self._span_context.trace_id:032x}"
        metrics.began()

    def _start_span(self) -> Span:
        parent = _PROPAGATOR.extract(self._metadata, Context()) if _TRACEPARENT in self._metadata else Context()
        service, _, name = self._site.method[1:].partition("/")
        span = self._site.tracer.start_span(
            self._site.method[1:],
            context=parent,
            kind=SpanKind.SERVER,
            attributes={names.RPC_SYSTEM: "grpc", names.RPC_SERVICE: service, names.RPC_METHOD: name},
        )
        # Never detached: the context belongs to this RPC's own task and ends with it.
        otel_context.attach(set_span_in_context(span, parent))
        return span

    def open(self) -> None:
        """Make the call known to everything below; raise what refuses it at the door."""
        identity = identify(self._site.identity, self._context.auth_context() or {}, self._metadata)
        remaining_s = self._remaining_s()
        set_current_call(
            IncomingCall(
                method=self._site.method,
                tenant=identity.tenant,
                principal=identity.principal,
                trace_id=self._trace_id,
                arrived_at=self._arrived_at,
                deadline_at=None if remaining_s is None else self._arrived_at + remaining_s,
            )
        )
        self._span.set_attribute(names.TENANT, identity.tenant)
        if remaining_s is not None and remaining_s <= 0:
            raise errors.DeadlineExceeded("the deadline had passed on arrival")

    def succeed(self) -> None:
        """The handler has given its whole answer."""
        self._close(grpc.StatusCode.OK)

    async def fail(self, problem: BaseException) -> None:
        """Close the call and, unless the caller is gone, answer with one status."""
        if isinstance(problem, GeneratorExit) or self._has_ended():
            is_late = (remaining_s := self._remaining_s()) is not None and remaining_s <= 0
            self._close(grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED)
            if isinstance(problem, asyncio.CancelledError | GeneratorExit):
                return
            # Raised while the handler cleaned up. gRPC would try to send it.
            self._presentable(problem)
            raise asyncio.CancelledError from problem
        if isinstance(problem, grpc.aio.AbortError):
            self._close(grpc.StatusCode.UNKNOWN)
            return
        answer = answer_of(self._presentable(problem))
        self._close(answer.code, answer.reason)
        await self._context.abort(answer.code, answer.message, answer.trailing_metadata)

    def _has_ended(self) -> bool:
        """The caller went away or its time ran out: nobody hears an answer."""
        task = asyncio.current_task()
        return self._context.cancelled() or self._context.done() or (task is not None and task.cancelling() > 0)

    def _presentable(self, problem: BaseException) -> errors.MeshError:
        if isinstance(problem, errors.MeshError) and not isinstance(problem, errors.Internal):
            return problem
        _log.error(names.LOG_RPC_CRASHED, stack=problem, method=self._site.method)
        return errors.Internal(f"internal error; report it with trace id {self._trace_id}")

    def _remaining_s(self) -> float | None:
        return self._context.time_remaining()

    def _close(self, code: grpc.StatusCode, reason: str = "") -> None:
        exemplar = {"trace_id": self._trace_id} if self._span_context.trace_flags.sampled else None
        self._metrics.ended(code.name, time.monotonic() - self._arrived_at, exemplar)
        self._span.set_attribute(names.RPC_STATUS, code.value[0])
        if code is not grpc.StatusCode.OK:
            self._span.set_attribute(names.ERROR_TYPE, code.name)
            self._span.set_status(StatusCode.ERROR, reason or code.name)
            _log.info(names.LOG_RPC_FAILED, method=self._site.method, code=code.name, reason=reason)
        self._span.end()
