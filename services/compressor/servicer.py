"""Translates the compressor's contract to its domain and back; decides which prompts are not looked into at all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from google.protobuf.duration_pb2 import Duration

from mesh.common.v1 import common_pb2
from mesh.compressor.v1 import compressor_service_pb2 as pb
from mesh.compressor.v1.compressor_service_pb2_grpc import CompressorServiceServicer
from meshkit.errors import InvalidRequest, NotBuilt
from meshkit.incoming import current_call
from meshkit.telemetry import names
from meshkit.telemetry.tracing import set_attributes
from services.compressor.conversation import Conversations
from services.compressor.expansions import Expansions
from services.compressor.hosted_counter import HostedCounters
from services.compressor.instance_counter import InstanceCounters
from services.compressor.limits import check, check_session
from services.compressor.order import Order, Outcome, StageReport
from services.compressor.pipeline import Pipeline
from services.compressor.prompt_proto import parts_of, with_texts
from services.compressor.prompt_text import TOOL_SCHEMA, Part
from services.compressor.sessions import Key
from services.compressor.settings import LimitSettings
from services.compressor.stages.stage import Loss
from services.compressor.tariff import UNKNOWN, Tariff
from services.compressor.token_counter import estimated_tokens

_LOSSES = {
    Loss.LOSSLESS: pb.LOSS_CLASS_LOSSLESS,
    Loss.SELECTIVE: pb.LOSS_CLASS_SELECTIVE,
    Loss.ABSTRACTIVE: pb.LOSS_CLASS_ABSTRACTIVE,
}

_SELECTING = (common_pb2.COMPRESSION_MODE_SELECTIVE, common_pb2.COMPRESSION_MODE_ABSTRACTIVE)


class CompressorServicer(CompressorServiceServicer):
    """The contract over one Pipeline."""

    def __init__(
        self,
        pipeline: Pipeline,
        conversations: Conversations,
        expansions: Expansions,
        counters: InstanceCounters,
        hosted: HostedCounters,
        limits: LimitSettings,
    ) -> None:
        self._pipeline = pipeline
        self._conversations = conversations
        self._expansions = expansions
        self._counters = counters
        self._hosted = hosted
        self._limits = limits

    async def Compress(self, request: pb.CompressRequest, context: Any) -> pb.CompressResponse:
        response = await self._compress(request, "")
        set_attributes({names.TOKENS_BEFORE: response.original_tokens, names.TOKENS_AFTER: response.compressed_tokens})
        return response

    async def CompressBatch(self, request: pb.CompressBatchRequest, context: Any) -> pb.CompressBatchResponse:
        if len(request.requests) > self._limits.max_batch:
            limit = f"{self._limits.max_batch} requests"
            raise InvalidRequest(f"{len(request.requests)} is too many", field="requests", limit=limit)
        for index, one in enumerate(request.requests):
            self._checked(one, f"requests[{index}].")
        responses = [await self._compress(one, f"requests[{i}].") for i, one in enumerate(request.requests)]
        return pb.CompressBatchResponse(responses=responses)

    async def Preview(self, request: pb.PreviewRequest, context: Any) -> pb.PreviewResponse:
        return pb.PreviewResponse(response=await self._compress(request.request, "request.", remembers=False))

    async def Expand(self, request: pb.ExpandRequest, context: Any) -> pb.ExpandResponse:
        if not request.handle:
            raise InvalidRequest("must not be empty", field="handle", limit="a handle from CompressResponse")
        return pb.ExpandResponse(text=self._expansions.expand(current_call().tenant, request.handle))

    async def ListStrategies(self, request: pb.ListStrategiesRequest, context: Any) -> pb.ListStrategiesResponse:
        return pb.ListStrategiesResponse(
            strategies=[
                pb.Strategy(name=one.name, description=one.description, loss_class=_LOSSES[one.loss])
                for one in self._pipeline.strategies
            ]
        )

    def _checked(self, request: pb.CompressRequest, path: str) -> Order:
        """The order; InvalidRequest for the first field outside its limit."""
        _check_form(request, path)
        check_session(request.session_id, path, self._limits)
        order = self._order(request)
        check(order, path, self._limits)
        if request.mode in _SELECTING and self._pipeline.selector is None:
            raise NotBuilt("this compressor has nothing to select with; use LOSSLESS")
        return order

    async def _compress(self, request: pb.CompressRequest, path: str, *, remembers: bool = True) -> pb.CompressResponse:
        order = self._checked(request, path)
        tenant = current_call().tenant
        key = Key(tenant=tenant, session_id=request.session_id) if request.session_id else None
        reason = _reason_untouched(request)
        if reason:
            is_eligible = key is None or self._conversations.untouched(order.parts, key, remembers=remembers)
            return self._untouched(request.prompt, order, reason, is_eligible=is_eligible)
        counter = self._counters.counter_for(request.prompt, request.model) or self._hosted.counter_for(request.model)
        outcome = await self._conversations.compress(order, counter, key, remembers=remembers)
        if remembers:
            self._expansions.keep(tenant, outcome.handles)
        return self._response(request.prompt, outcome)

    def _may_sum_up(self, tenant: str) -> bool:
        return self._pipeline.summaries is not None and self._pipeline.summaries.serves(tenant)

    def _order(self, request: pb.CompressRequest) -> Order:
        tenant = current_call().tenant
        parts = parts_of(request.prompt)
        is_selective = request.mode in _SELECTING
        prices = request.prices
        return Order(
            parts=parts,
            protect=tuple(request.protect),
            frozen_bytes=request.frozen_prefix and request.frozen_prefix + _schema_bytes(parts),
            target_ratio=request.target_ratio if request.HasField("target_ratio") else None,
            min_quality=request.min_quality if request.HasField("min_quality") else None,
            is_abstractive=request.mode == common_pb2.COMPRESSION_MODE_ABSTRACTIVE and self._may_sum_up(tenant),
            is_selective=is_selective and sum(len(part.text) for part in parts) <= self._limits.max_selective_chars,
            handle_of=partial(self._expansions.handle_of, tenant) if request.with_handles else None,
            tariff=Tariff(input_micro_usd=prices.input_micro_usd, cached_input_micro_usd=prices.cached_input_micro_usd)
            if request.HasField("prices")
            else UNKNOWN,
        )

    def _untouched(
        self, prompt: common_pb2.Prompt, order: Order, reason: str, *, is_eligible: bool
    ) -> pb.CompressResponse:
        is_counted = prompt.WhichOneof("input") == "token_ids"
        texts = [part.text for part in order.parts]
        token_count = len(prompt.token_ids.ids) if is_counted else estimated_tokens(texts)
        return pb.CompressResponse(
            compressed=prompt,
            original_tokens=token_count,
            compressed_tokens=token_count,
            quality_score=1.0,
            quality_interval=pb.Interval(low=1.0, high=1.0),
            cache_eligible=is_eligible,
            reason_original_kept=reason,
            version=self._pipeline.version,
            counts_are_estimates=not is_counted,
        )

    def _response(self, prompt: common_pb2.Prompt, outcome: Outcome) -> pb.CompressResponse:
        benefit = outcome.net_benefit_micro_usd
        return pb.CompressResponse(
            compressed=with_texts(prompt, outcome.texts),
            original_tokens=outcome.original_tokens,
            compressed_tokens=outcome.compressed_tokens,
            token_reduction=outcome.token_reduction,
            quality_score=outcome.quality.score,
            quality_interval=pb.Interval(low=outcome.quality.low, high=outcome.quality.high),
            cache_eligible=outcome.is_prefix_kept,
            stages=[_stage_report(report) for report in outcome.stages],
            handles=outcome.handles,
            reason_original_kept=outcome.reason_original_kept,
            version=self._pipeline.version,
            counts_are_estimates=outcome.is_estimate,
            net_benefit_micro_usd=None if benefit is None else round(benefit),
        )


def _reason_untouched(request: pb.CompressRequest) -> str:
    """Why this prompt is not looked into; empty where it is."""
    if request.prompt.WhichOneof("input") == "token_ids":
        return "token ids are sent as they are"
    if request.prompt.raw:
        return "raw text is sent as it is"
    return "compression is off" if request.mode == common_pb2.COMPRESSION_MODE_OFF else ""


def _schema_bytes(parts: Sequence[Part]) -> int:
    """Readers see tools before the first message, so where a prefix is frozen they are."""
    return sum(len(part.text.encode("utf-8")) for part in parts if part.role == TOOL_SCHEMA)


def _check_form(request: pb.CompressRequest, path: str) -> None:
    prompt = request.prompt
    form = prompt.WhichOneof("input")
    content = {"messages": prompt.messages.messages, "text": prompt.text, "token_ids": prompt.token_ids.ids}
    if form is None or not content[form]:
        field = f"{path}prompt.{form or 'input'}"
        raise InvalidRequest("must not be empty", field=field, limit="at least 1 of its kind")
    if request.mode not in common_pb2.CompressionMode.values():
        raise InvalidRequest(
            f"{request.mode} is not known", field=f"{path}mode", limit="OFF, LOSSLESS, SELECTIVE or ABSTRACTIVE"
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
