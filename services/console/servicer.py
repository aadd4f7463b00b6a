"""OTLP over gRPC: traces are kept; metrics and logs are answered, and said to be refused.

OTLP tells the sender of lost data in `partial_success`, which well-behaved senders log and do not retry. Answering
metrics and logs that way, rather than with an error, keeps a sender of all three from retrying for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from services.console import otlp
from services.console.intake import Intake

_SPANS_A_TURN = 100
_ONLY_TRACES = "this receiver keeps traces only"


class TraceServicer(trace_service_pb2_grpc.TraceServiceServicer):
    """Queues spans and answers at once; what was queued is written a moment later."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def Export(
        self,
        request: trace_service_pb2.ExportTraceServiceRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        refused = 0
        reasons: set[str] = set()
        for number, span in enumerate(otlp.spans(request), start=1):
            if isinstance(span, otlp.Refused):
                self._intake.refuse(1)
                refused, reasons = refused + 1, reasons | {span.reason}
            elif not self._intake.offer(span):
                refused, reasons = refused + 1, reasons | {"the queue is full"}
            if number % _SPANS_A_TURN == 0:
                await asyncio.sleep(0)
        response = trace_service_pb2.ExportTraceServiceResponse()
        if refused:
            response.partial_success.rejected_spans = refused
            response.partial_success.error_message = "; ".join(sorted(reasons))
        return response


class MetricsServicer(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Says that metrics are not kept."""

    async def Export(
        self,
        request: metrics_service_pb2.ExportMetricsServiceRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        response = metrics_service_pb2.ExportMetricsServiceResponse()
        response.partial_success.rejected_data_points = _point_count(request)
        response.partial_success.error_message = _ONLY_TRACES
        return response


class LogsServicer(logs_service_pb2_grpc.LogsServiceServicer):
    """Says that logs are not kept."""

    async def Export(
        self,
        request: logs_service_pb2.ExportLogsServiceRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> logs_service_pb2.ExportLogsServiceResponse:
        response = logs_service_pb2.ExportLogsServiceResponse()
        response.partial_success.rejected_log_records = sum(
            len(scope.log_records) for resource in request.resource_logs for scope in resource.scope_logs
        )
        response.partial_success.error_message = _ONLY_TRACES
        return response


def add_to(server: grpc.aio.Server, intake: Intake) -> None:
    """Add the three services of OTLP."""
    # opentelemetry-proto ships no types for its generated services.
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(TraceServicer(intake), server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(MetricsServicer(), server)  # type: ignore[no-untyped-call]
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(LogsServicer(), server)  # type: ignore[no-untyped-call]


def _point_count(request: metrics_service_pb2.ExportMetricsServiceRequest) -> int:
    metrics = (m for resource in request.resource_metrics for scope in resource.scope_metrics for m in scope.metrics)
    return sum(len(getattr(m, kind).data_points) for m in metrics if (kind := m.WhichOneof("data")))
