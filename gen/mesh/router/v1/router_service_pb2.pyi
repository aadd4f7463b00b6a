import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from mesh.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OnExceed(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_EXCEED_UNSPECIFIED: _ClassVar[OnExceed]
    ON_EXCEED_REJECT: _ClassVar[OnExceed]
    ON_EXCEED_DOWNGRADE: _ClassVar[OnExceed]
    ON_EXCEED_TRUNCATE: _ClassVar[OnExceed]

class Replay(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLAY_UNSPECIFIED: _ClassVar[Replay]
    REPLAY_AT_ONCE: _ClassVar[Replay]
    REPLAY_PACED: _ClassVar[Replay]
ON_EXCEED_UNSPECIFIED: OnExceed
ON_EXCEED_REJECT: OnExceed
ON_EXCEED_DOWNGRADE: OnExceed
ON_EXCEED_TRUNCATE: OnExceed
REPLAY_UNSPECIFIED: Replay
REPLAY_AT_ONCE: Replay
REPLAY_PACED: Replay

class GenerateRequest(_message.Message):
    __slots__ = ("prompt", "sampling", "stopping", "output", "constraint", "model", "tier", "slo", "budget", "cache", "compression", "route", "session_id", "labels", "idempotency_key")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    SLO_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    prompt: _common_pb2.Prompt
    sampling: _common_pb2.SamplingParams
    stopping: _common_pb2.StoppingParams
    output: _common_pb2.OutputParams
    constraint: _common_pb2.Constraint
    model: str
    tier: str
    slo: Slo
    budget: Budget
    cache: CachePolicy
    compression: CompressionPolicy
    route: RoutePolicy
    session_id: str
    labels: _containers.ScalarMap[str, str]
    idempotency_key: str
    def __init__(self, prompt: _Optional[_Union[_common_pb2.Prompt, _Mapping]] = ..., sampling: _Optional[_Union[_common_pb2.SamplingParams, _Mapping]] = ..., stopping: _Optional[_Union[_common_pb2.StoppingParams, _Mapping]] = ..., output: _Optional[_Union[_common_pb2.OutputParams, _Mapping]] = ..., constraint: _Optional[_Union[_common_pb2.Constraint, _Mapping]] = ..., model: _Optional[str] = ..., tier: _Optional[str] = ..., slo: _Optional[_Union[Slo, _Mapping]] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., cache: _Optional[_Union[CachePolicy, _Mapping]] = ..., compression: _Optional[_Union[CompressionPolicy, _Mapping]] = ..., route: _Optional[_Union[RoutePolicy, _Mapping]] = ..., session_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class Slo(_message.Message):
    __slots__ = ("ttft", "tpot", "e2e")
    TTFT_FIELD_NUMBER: _ClassVar[int]
    TPOT_FIELD_NUMBER: _ClassVar[int]
    E2E_FIELD_NUMBER: _ClassVar[int]
    ttft: _duration_pb2.Duration
    tpot: _duration_pb2.Duration
    e2e: _duration_pb2.Duration
    def __init__(self, ttft: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., tpot: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., e2e: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("max_cost_micro_usd", "max_tokens", "on_exceed")
    MAX_COST_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ON_EXCEED_FIELD_NUMBER: _ClassVar[int]
    max_cost_micro_usd: int
    max_tokens: int
    on_exceed: OnExceed
    def __init__(self, max_cost_micro_usd: _Optional[int] = ..., max_tokens: _Optional[int] = ..., on_exceed: _Optional[_Union[OnExceed, str]] = ...) -> None: ...

class CachePolicy(_message.Message):
    __slots__ = ("mode", "scope", "max_age", "ttl", "max_error_rate", "no_store", "replay")
    MODE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    MAX_ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    NO_STORE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    mode: _common_pb2.CacheMode
    scope: _common_pb2.CacheScope
    max_age: _duration_pb2.Duration
    ttl: _duration_pb2.Duration
    max_error_rate: float
    no_store: bool
    replay: Replay
    def __init__(self, mode: _Optional[_Union[_common_pb2.CacheMode, str]] = ..., scope: _Optional[_Union[_common_pb2.CacheScope, str]] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_error_rate: _Optional[float] = ..., no_store: bool = ..., replay: _Optional[_Union[Replay, str]] = ...) -> None: ...

class CompressionPolicy(_message.Message):
    __slots__ = ("mode", "target_ratio", "min_quality", "protect", "frozen_prefix")
    MODE_FIELD_NUMBER: _ClassVar[int]
    TARGET_RATIO_FIELD_NUMBER: _ClassVar[int]
    MIN_QUALITY_FIELD_NUMBER: _ClassVar[int]
    PROTECT_FIELD_NUMBER: _ClassVar[int]
    FROZEN_PREFIX_FIELD_NUMBER: _ClassVar[int]
    mode: _common_pb2.CompressionMode
    target_ratio: float
    min_quality: float
    protect: _containers.RepeatedScalarFieldContainer[str]
    frozen_prefix: int
    def __init__(self, mode: _Optional[_Union[_common_pb2.CompressionMode, str]] = ..., target_ratio: _Optional[float] = ..., min_quality: _Optional[float] = ..., protect: _Optional[_Iterable[str]] = ..., frozen_prefix: _Optional[int] = ...) -> None: ...

class RoutePolicy(_message.Message):
    __slots__ = ("min_quality", "cascade", "hedge", "priority", "pin")
    MIN_QUALITY_FIELD_NUMBER: _ClassVar[int]
    CASCADE_FIELD_NUMBER: _ClassVar[int]
    HEDGE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    min_quality: float
    cascade: bool
    hedge: bool
    priority: int
    pin: str
    def __init__(self, min_quality: _Optional[float] = ..., cascade: bool = ..., hedge: bool = ..., priority: _Optional[int] = ..., pin: _Optional[str] = ...) -> None: ...

class GenerateEvent(_message.Message):
    __slots__ = ("seq", "accepted", "delta", "escalated", "migrated", "hedged", "finished")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    ESCALATED_FIELD_NUMBER: _ClassVar[int]
    MIGRATED_FIELD_NUMBER: _ClassVar[int]
    HEDGED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    seq: int
    accepted: Accepted
    delta: _common_pb2.Delta
    escalated: Escalated
    migrated: Migrated
    hedged: Hedged
    finished: Finished
    def __init__(self, seq: _Optional[int] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., delta: _Optional[_Union[_common_pb2.Delta, _Mapping]] = ..., escalated: _Optional[_Union[Escalated, _Mapping]] = ..., migrated: _Optional[_Union[Migrated, _Mapping]] = ..., hedged: _Optional[_Union[Hedged, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("decision_id", "model", "tier", "instance", "revision", "cache_status", "compression", "stale")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CACHE_STATUS_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    model: str
    tier: str
    instance: str
    revision: str
    cache_status: _common_pb2.CacheStatus
    compression: _common_pb2.CompressionSummary
    stale: bool
    def __init__(self, decision_id: _Optional[str] = ..., model: _Optional[str] = ..., tier: _Optional[str] = ..., instance: _Optional[str] = ..., revision: _Optional[str] = ..., cache_status: _Optional[_Union[_common_pb2.CacheStatus, str]] = ..., compression: _Optional[_Union[_common_pb2.CompressionSummary, _Mapping]] = ..., stale: bool = ...) -> None: ...

class Escalated(_message.Message):
    __slots__ = ("from_model", "to_model", "reason")
    FROM_MODEL_FIELD_NUMBER: _ClassVar[int]
    TO_MODEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    from_model: str
    to_model: str
    reason: str
    def __init__(self, from_model: _Optional[str] = ..., to_model: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Migrated(_message.Message):
    __slots__ = ("from_instance", "to_instance", "reason")
    FROM_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    TO_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    from_instance: str
    to_instance: str
    reason: str
    def __init__(self, from_instance: _Optional[str] = ..., to_instance: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Hedged(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: str
    def __init__(self, instance: _Optional[str] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("finish_reason", "usage", "timings", "cost", "quality", "trace_id")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    finish_reason: _common_pb2.FinishReason
    usage: _common_pb2.Usage
    timings: _common_pb2.Timings
    cost: _common_pb2.Cost
    quality: float
    trace_id: str
    def __init__(self, finish_reason: _Optional[_Union[_common_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_common_pb2.Usage, _Mapping]] = ..., timings: _Optional[_Union[_common_pb2.Timings, _Mapping]] = ..., cost: _Optional[_Union[_common_pb2.Cost, _Mapping]] = ..., quality: _Optional[float] = ..., trace_id: _Optional[str] = ...) -> None: ...

class GenerateOnceResponse(_message.Message):
    __slots__ = ("accepted", "answers", "finished", "text")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    answers: _containers.RepeatedCompositeFieldContainer[_common_pb2.Delta]
    finished: Finished
    text: str
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., answers: _Optional[_Iterable[_Union[_common_pb2.Delta, _Mapping]]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., text: _Optional[str] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: GenerateRequest
    def __init__(self, request: _Optional[_Union[GenerateRequest, _Mapping]] = ...) -> None: ...

class PlanResponse(_message.Message):
    __slots__ = ("candidates",)
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    def __init__(self, candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("model", "tier", "instance", "score", "quality", "ttft", "tpot", "cost_micro_usd", "reason")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    TTFT_FIELD_NUMBER: _ClassVar[int]
    TPOT_FIELD_NUMBER: _ClassVar[int]
    COST_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model: str
    tier: str
    instance: str
    score: float
    quality: float
    ttft: _duration_pb2.Duration
    tpot: _duration_pb2.Duration
    cost_micro_usd: int
    reason: str
    def __init__(self, model: _Optional[str] = ..., tier: _Optional[str] = ..., instance: _Optional[str] = ..., score: _Optional[float] = ..., quality: _Optional[float] = ..., ttft: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., tpot: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cost_micro_usd: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("decision_id",)
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    def __init__(self, decision_id: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("accepted", "candidates", "finished")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    finished: Finished
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class CountTokensRequest(_message.Message):
    __slots__ = ("prompt", "model")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    prompt: _common_pb2.Prompt
    model: str
    def __init__(self, prompt: _Optional[_Union[_common_pb2.Prompt, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class CountTokensResponse(_message.Message):
    __slots__ = ("prompt_tokens", "model")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    model: str
    def __init__(self, prompt_tokens: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("texts", "model", "idempotency_key")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    model: str
    idempotency_key: str
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., model: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("embeddings", "model")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[Embedding]
    model: str
    def __init__(self, embeddings: _Optional[_Iterable[_Union[Embedding, _Mapping]]] = ..., model: _Optional[str] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "tier", "revisions", "context_tokens", "instance_count", "ready_count", "input_price_micro_usd", "cached_input_price_micro_usd", "output_price_micro_usd")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    READY_COUNT_FIELD_NUMBER: _ClassVar[int]
    INPUT_PRICE_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    CACHED_INPUT_PRICE_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PRICE_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    name: str
    tier: str
    revisions: _containers.RepeatedScalarFieldContainer[str]
    context_tokens: int
    instance_count: int
    ready_count: int
    input_price_micro_usd: int
    cached_input_price_micro_usd: int
    output_price_micro_usd: int
    def __init__(self, name: _Optional[str] = ..., tier: _Optional[str] = ..., revisions: _Optional[_Iterable[str]] = ..., context_tokens: _Optional[int] = ..., instance_count: _Optional[int] = ..., ready_count: _Optional[int] = ..., input_price_micro_usd: _Optional[int] = ..., cached_input_price_micro_usd: _Optional[int] = ..., output_price_micro_usd: _Optional[int] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("decision_id", "idempotency_key")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    idempotency_key: str
    def __init__(self, decision_id: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ("cancelled",)
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    cancelled: bool
    def __init__(self, cancelled: bool = ...) -> None: ...

class ReportOutcomeRequest(_message.Message):
    __slots__ = ("decision_id", "score", "label", "idempotency_key")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    score: float
    label: str
    idempotency_key: str
    def __init__(self, decision_id: _Optional[str] = ..., score: _Optional[float] = ..., label: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class ReportOutcomeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
