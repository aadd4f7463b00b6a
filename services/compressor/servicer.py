"""Translates the compressor's contract to its domain and back; decides which prompts are not looked into at all."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from mesh.common.v1 import common_pb2
from mesh.compressor.v1 import compressor_service_pb2 as pb
from mesh.compressor.v1.compressor_service_pb2_grpc import CompressorServiceServicer
from meshkit.errors import InvalidRequest, NotBuilt
from meshkit.telemetry import names
from meshkit.telemetry.tracing import set_attributes
from services.compressor.instance_counter import InstanceCounters
from services.compressor.limits import check
from services.compressor.pipeline import VERSION, Order, Outcome, Pipeline, StageReport
from services.compressor.prompt_proto import parts_of, with_texts
from services.compressor.settings import LimitSettings
from services.compressor.stages.stage import Loss
from services.compressor.token_counter import estimated_tokens

_LOSSES = {
    Loss.LOSSLESS: pb.LOSS_CLASS_LOSSLESS,
    Loss.SELECTIVE: pb.LOSS_CLASS_SELECTIVE,
    Loss.ABSTRACTIVE: pb.LOSS_CLASS_ABSTRACTIVE,
}


class CompressorServicer(CompressorServiceServicer):
    """The contract over one Pipeline."""

    def __init__(self, pipeline: Pipeline, counters: InstanceCounters, limits: LimitSettings) -> None:
        self._pipeline = pipeline
        self._counters = counters
        self._limits = limits

    async def Compress(self, request: pb.CompressRequest, context: Any) -> pb.CompressResponse:
        response = await self._compress(request, "")
        set_attributes({names.TOKENS_BEFORE: response.original_tokens, names.TOKENS_AFTER: response.compressed_tokens})
        return response

    async def CompressBatch(self, request: pb.CompressBatchRequest, context: Any) -> pb.CompressBatchResponse:
        if len(request.requests) > self._limits.max_batch:
            limit = f"{self._limits.max_batch} requests"
            raise InvalidRequest(f"{len(request.requests)} is too many", field="requests", limit=limit)
        responses = [await self._compress(one, f"requests[{i}].") for i, one in enumerate(request.requests)]
        return pb.CompressBatchResponse(responses=responses)

    async def Preview(self, request: pb.PreviewRequest, context: Any) -> pb.PreviewResponse:
        return pb.PreviewResponse(response=await self._compress(request.request, "request."))

    async def Expand(self, request: pb.ExpandRequest, context: Any) -> pb.ExpandResponse:
        raise NotBuilt("nothing is left out yet, so there are no handles to expand")

    async def ListStrategies(self, request: pb.ListStrategiesRequest, context: Any) -> pb.ListStrategiesResponse:
        return pb.ListStrategiesResponse(
            strategies=[
                pb.Strategy(name=stage.name, description=stage.description, loss_class=_LOSSES[stage.loss])
                for stage in self._pipeline.stages
            ]
        )

    async def _compress(self, request: pb.CompressRequest, path: str) -> pb.CompressResponse:
        _check_form(request, path)
        order = _order(request)
        check(order, path, self._limits)
        if request.mode == common_pb2.COMPRESSION_MODE_SELECTIVE:
            raise NotBuilt("selection by relevance is not built yet; use LOSSLESS")
        prompt = request.prompt
        if prompt.WhichOneof("input") == "token_ids":
            return _untouched(prompt, len(prompt.token_ids.ids), "token ids are sent as they are")
        if prompt.raw or request.mode == common_pb2.COMPRESSION_MODE_OFF:
            reason = "raw text is sent as it is" if prompt.raw else "compression is off"
            token_count = estimated_tokens([part.text for part in order.parts])
            return _untouched(prompt, token_count, reason, is_estimate=True)
        counter = self._counters.counter_for(prompt, request.model)
        return _response(prompt, await self._pipeline.compress(order, counter))


def _check_form(request: pb.CompressRequest, path: str) -> None:
    prompt = request.prompt
    form = prompt.WhichOneof("input")
    content = {"messages": prompt.messages.messages, "text": prompt.text, "token_ids": prompt.token_ids.ids}
    if form is None or not content[form]:
        field = f"{path}prompt.{form or 'input'}"
        raise InvalidRequest("must not be empty", field=field, limit="at least 1 of its kind")
    if request.mode not in common_pb2.CompressionMode.values():
        raise InvalidRequest(f"{request.mode} is not known", field=f"{path}mode", limit="OFF, LOSSLESS or SELECTIVE")


def _order(request: pb.CompressRequest) -> Order:
    return Order(
        parts=parts_of(request.prompt),
        protect=tuple(request.protect),
        frozen_bytes=request.frozen_prefix,
        target_ratio=request.target_ratio if request.HasField("target_ratio") else None,
        min_quality=request.min_quality if request.HasField("min_quality") else None,
    )


def _untouched(
    prompt: common_pb2.Prompt, token_count: int, reason: str, *, is_estimate: bool = False
) -> pb.CompressResponse:
    return pb.CompressResponse(
        compressed=prompt,
        original_tokens=token_count,
        compressed_tokens=token_count,
        quality_score=1.0,
        quality_interval=pb.Interval(low=1.0, high=1.0),
        cache_eligible=True,
        reason_original_kept=reason,
        version=VERSION,
        counts_are_estimates=is_estimate,
    )


def _response(prompt: common_pb2.Prompt, outcome: Outcome) -> pb.CompressResponse:
    return pb.CompressResponse(
        compressed=with_texts(prompt, outcome.texts),
        original_tokens=outcome.original_tokens,
        compressed_tokens=outcome.compressed_tokens,
        token_reduction=outcome.token_reduction,
        quality_score=outcome.quality.score,
        quality_interval=pb.Interval(low=outcome.quality.low, high=outcome.quality.high),
        cache_eligible=outcome.is_prefix_kept,
        stages=[_stage_report(report) for report in outcome.stages],
        reason_original_kept=outcome.reason_original_kept,
        version=VERSION,
        counts_are_estimates=outcome.is_estimate,
    )


def _stage_report(report: StageReport) -> pb.StageReport:
    duration = Duration()
    duration.FromNanoseconds(int(report.duration_s * 1e9))
    return pb.StageReport(
        stage=report.stage,
        tokens_before=report.tokens_before,
        tokens_after=report.tokens_after,
        duration=duration,
        loss_class=_LOSSES[report.loss],
        segment_count=report.segment_count,
    )
