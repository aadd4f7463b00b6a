"""What an answer's stream says, as plain values: seconds, micro-USD, lower-case names."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The decision, before any token."""

    decision_id: str
    model: str
    tier: str
    instance: str
    revision: str
    cache_status: str
    """hit, miss, lead, follow, bypass or unavailable."""
    is_stale: bool = False
    """A hit whose time to live is over; it is generated anew in the background where there is room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of an answer."""

    text: str
    index: int = 0
    """Which of the answers, where several were asked for."""
    token_ids: tuple[int, ...] = ()
    token_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that changed on the way: escalated, migrated, hedged."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens."""

    prompt_tokens: int
    cached_prompt_tokens: int
    compressed_from_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds per stage; None: the stage was not reached."""

    admission_s: float | None
    cache_lookup_s: float | None
    compress_s: float | None
    route_s: float | None
    engine_queue_s: float | None
    prefill_s: float | None
    first_token_s: float | None
    decode_s: float | None
    total_s: float | None
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Micro-USD; a million is one US dollar."""

    total: int
    saved_by_cache: int
    saved_by_compression: int
    counterfactual: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end and the bill."""

    finish_reason: str
    """stop, length, cancelled, content or tool_calls."""
    usage: Usage
    timings: Timings
    cost: Cost
    trace_id: str

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None for fewer than two."""
        if self.timings.decode_s is None or self.usage.completion_tokens < 2:
            return None
        return self.timings.decode_s / (self.usage.completion_tokens - 1)


Event = Accepted | Delta | Notice | Finished


def event_of(message: router_service_pb2.GenerateEvent) -> Event | None:
    """The typed event of a message; None for a kind that this version does not know."""
    kind = message.WhichOneof("event")
    if kind == "delta":
        delta = message.delta
        return Delta(
            text=delta.text, index=delta.index, token_ids=tuple(delta.token_ids), token_count=delta.token_count
        )
    if kind == "accepted":
        return _accepted(message.accepted)
    if kind == "finished":
        return finished_of(message.finished)
    if kind == "migrated":
        move = f"{message.migrated.from_instance} -> {message.migrated.to_instance}"
        return Notice(kind=kind, message=f"{move}: {message.migrated.reason}")
    if kind == "escalated":
        move = f"{message.escalated.from_model} -> {message.escalated.to_model}"
        return Notice(kind=kind, message=f"{move}: {message.escalated.reason}")
    if kind == "hedged":
        return Notice(kind=kind, message=message.hedged.instance)
    return None


def finished_of(message: router_service_pb2.Finished) -> Finished:
    """The typed bill."""
    usage, cost = message.usage, message.cost
    return Finished(
        finish_reason=_name(common_pb2.FinishReason.Name(message.finish_reason), "FINISH_REASON_"),
        usage=Usage(
            prompt_tokens=usage.prompt_tokens,
            cached_prompt_tokens=usage.cached_prompt_tokens,
            compressed_from_tokens=usage.compressed_from_tokens,
            completion_tokens=usage.completion_tokens,
        ),
        timings=_timings(message.timings),
        cost=Cost(
            total=cost.total,
            saved_by_cache=cost.saved_by_cache,
            saved_by_compression=cost.saved_by_compression,
            counterfactual=cost.counterfactual,
        ),
        trace_id=message.trace_id,
    )


def _accepted(message: router_service_pb2.Accepted) -> Accepted:
    return Accepted(
        decision_id=message.decision_id,
        model=message.model,
        tier=message.tier,
        instance=message.instance,
        revision=message.revision,
        cache_status=_name(common_pb2.CacheStatus.Name(message.cache_status), "CACHE_STATUS_"),
        is_stale=message.stale,
    )


def _timings(message: common_pb2.Timings) -> Timings:
    def seconds(field: str) -> float | None:
        if not message.HasField(field):
            return None
        span: Duration = getattr(message, field)
        return span.seconds + span.nanos / 1e9

    return Timings(
        admission_s=seconds("admission"),
        cache_lookup_s=seconds("cache_lookup"),
        compress_s=seconds("compress"),
        route_s=seconds("route"),
        engine_queue_s=seconds("engine_queue"),
        prefill_s=seconds("prefill"),
        first_token_s=seconds("first_token"),
        decode_s=seconds("decode"),
        total_s=seconds("total"),
        attempts=message.attempts,
    )


def _name(constant: str, prefix: str) -> str:
    return constant.removeprefix(prefix).lower()
