"""From the router's events to messages. Absent stages stay absent; money and tokens are copied as they are."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2
from meshkit.coalescing import Piece
from services.router.catalogue import Model
from services.router.events import (
    Accepted,
    CacheStatus,
    Compression,
    Cost,
    Event,
    Finished,
    FinishReason,
    Migrated,
    Timings,
    Usage,
)

CACHE_STATUS = {
    CacheStatus.HIT: common_pb2.CACHE_STATUS_HIT,
    CacheStatus.MISS: common_pb2.CACHE_STATUS_MISS,
    CacheStatus.LEAD: common_pb2.CACHE_STATUS_LEAD,
    CacheStatus.FOLLOW: common_pb2.CACHE_STATUS_FOLLOW,
    CacheStatus.BYPASS: common_pb2.CACHE_STATUS_BYPASS,
    CacheStatus.UNAVAILABLE: common_pb2.CACHE_STATUS_UNAVAILABLE,
}
FINISH_REASON = {
    FinishReason.STOP: common_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: common_pb2.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: common_pb2.FINISH_REASON_CANCELLED,
    FinishReason.CONTENT: common_pb2.FINISH_REASON_CONTENT,
    FinishReason.TOOL_CALLS: common_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.ERROR: common_pb2.FINISH_REASON_ERROR,
}
FINISH_REASON_OF_CODE = {code: reason for reason, code in FINISH_REASON.items()}


def event_message(seq: int, event: Event) -> router_service_pb2.GenerateEvent:
    """One event of the stream."""
    if isinstance(event, Piece):
        return router_service_pb2.GenerateEvent(seq=seq, delta=delta_message(event))
    if isinstance(event, Accepted):
        return router_service_pb2.GenerateEvent(seq=seq, accepted=accepted_message(event))
    if isinstance(event, Migrated):
        migrated = router_service_pb2.Migrated(
            from_instance=event.from_instance, to_instance=event.to_instance, reason=event.reason
        )
        return router_service_pb2.GenerateEvent(seq=seq, migrated=migrated)
    return router_service_pb2.GenerateEvent(seq=seq, finished=finished_message(event))


def delta_message(piece: Piece) -> common_pb2.Delta:
    """A piece; its logprobs and tool calls are messages already."""
    return common_pb2.Delta(
        index=piece.index,
        text=piece.text,
        token_ids=piece.token_ids,
        logprobs=piece.logprobs,  # type: ignore[arg-type]  # opaque to the rules, put there by delta_piece
        tool_calls=piece.tool_calls,  # type: ignore[arg-type]
        token_count=piece.token_count,
    )


def delta_piece(delta: common_pb2.Delta) -> Piece:
    """The opposite of `delta_message`."""
    return Piece(
        index=delta.index,
        text=delta.text,
        token_ids=tuple(delta.token_ids),
        logprobs=tuple(delta.logprobs),
        tool_calls=tuple(delta.tool_calls),
        token_count=delta.token_count,
    )


def accepted_message(accepted: Accepted) -> router_service_pb2.Accepted:
    """The decision."""
    return router_service_pb2.Accepted(
        decision_id=accepted.decision_id,
        model=accepted.model,
        tier=accepted.tier,
        instance=accepted.instance,
        revision=accepted.revision,
        cache_status=CACHE_STATUS[accepted.cache_status],
        compression=_compression_message(accepted.compression) if accepted.compression else None,
        stale=accepted.is_stale,
    )


def finished_message(finished: Finished) -> router_service_pb2.Finished:
    """The end and the bill."""
    return router_service_pb2.Finished(
        finish_reason=FINISH_REASON[finished.finish_reason],
        usage=usage_message(finished.usage),
        timings=_timings_message(finished.timings),
        cost=_cost_message(finished.cost),
        trace_id=finished.trace_id,
    )


def usage_message(usage: Usage) -> common_pb2.Usage:
    """Tokens."""
    return common_pb2.Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_prompt_tokens=usage.cached_prompt_tokens,
        compressed_from_tokens=usage.compressed_from_tokens,
        completion_tokens=usage.completion_tokens,
        speculative_accepted=usage.speculative_accepted,
    )


def usage_of(message: common_pb2.Usage) -> Usage:
    """The opposite of `usage_message`."""
    return Usage(
        prompt_tokens=message.prompt_tokens,
        cached_prompt_tokens=message.cached_prompt_tokens,
        compressed_from_tokens=message.compressed_from_tokens,
        completion_tokens=message.completion_tokens,
        speculative_accepted=message.speculative_accepted,
    )


def duration(seconds: float | None) -> Duration | None:
    """A span; None stays absent."""
    if seconds is None:
        return None
    nanoseconds = max(0, round(seconds * 1e9))
    return Duration(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)


def seconds(span: Duration) -> float:
    """The opposite of `duration`."""
    return span.seconds + span.nanos / 1e9


def model_message(model: Model) -> router_service_pb2.Model:
    """One model of the catalogue."""
    return router_service_pb2.Model(
        name=model.name,
        tier=model.tier,
        revisions=model.revisions,
        context_tokens=model.context_tokens,
        instance_count=len(model.instances),
        ready_count=model.ready_count,
        input_price_micro_usd=model.price.input_micro_usd,
        cached_input_price_micro_usd=model.price.cached_input_micro_usd,
        output_price_micro_usd=model.price.output_micro_usd,
    )


def _compression_message(compression: Compression) -> common_pb2.CompressionSummary:
    before, after = compression.original_tokens, compression.compressed_tokens
    return common_pb2.CompressionSummary(
        original_tokens=before,
        compressed_tokens=after,
        token_reduction=1 - after / before if before else 0.0,
        quality_score=compression.quality_score,
        reason_original_kept=compression.reason_original_kept,
    )


def _timings_message(timings: Timings) -> common_pb2.Timings:
    return common_pb2.Timings(
        admission=duration(timings.admission_s),
        cache_lookup=duration(timings.cache_lookup_s),
        compress=duration(timings.compress_s),
        route=duration(timings.route_s),
        engine_queue=duration(timings.engine_queue_s),
        prefill=duration(timings.prefill_s),
        first_token=duration(timings.first_token_s),
        decode=duration(timings.decode_s),
        total=duration(timings.total_s),
        attempts=timings.attempts,
    )


def _cost_message(cost: Cost) -> common_pb2.Cost:
    return common_pb2.Cost(
        input=cost.input,
        cached_input=cost.cached_input,
        output=cost.output,
        total=cost.total,
        saved_by_cache=cost.saved_by_cache,
        saved_by_compression=cost.saved_by_compression,
        counterfactual=cost.counterfactual,
    )
