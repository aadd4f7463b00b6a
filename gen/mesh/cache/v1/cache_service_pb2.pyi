import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from mesh.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SemanticDecider(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEMANTIC_DECIDER_UNSPECIFIED: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_ERROR_BOUND: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_NO_NEIGHBOUR: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_SAMPLE: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_GUARD_NUMBERS: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_GUARD_POLARITY: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_GUARD_ENTITIES: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_GUARD_UNITS: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_GUARD_WORD_ORDER: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_GUARD_LANGUAGE: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_GUARD_LENGTH: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_GUARD_QUESTION_KIND: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_NOT_COMPARABLE: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_OVERLOADED: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_UNAVAILABLE: _ClassVar[SemanticDecider]
    SEMANTIC_DECIDER_EVICTED: _ClassVar[SemanticDecider]

class CacheTier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_TIER_UNSPECIFIED: _ClassVar[CacheTier]
    CACHE_TIER_L1: _ClassVar[CacheTier]
    CACHE_TIER_L2: _ClassVar[CacheTier]
    CACHE_TIER_L3: _ClassVar[CacheTier]
SEMANTIC_DECIDER_UNSPECIFIED: SemanticDecider
SEMANTIC_DECIDER_ERROR_BOUND: SemanticDecider
SEMANTIC_DECIDER_NO_NEIGHBOUR: SemanticDecider
SEMANTIC_DECIDER_SAMPLE: SemanticDecider
SEMANTIC_DECIDER_GUARD_NUMBERS: SemanticDecider
SEMANTIC_DECIDER_GUARD_POLARITY: SemanticDecider
SEMANTIC_DECIDER_GUARD_ENTITIES: SemanticDecider
SEMANTIC_DECIDER_GUARD_UNITS: SemanticDecider
SEMANTIC_DECIDER_GUARD_WORD_ORDER: SemanticDecider
SEMANTIC_DECIDER_GUARD_LANGUAGE: SemanticDecider
SEMANTIC_DECIDER_GUARD_LENGTH: SemanticDecider
SEMANTIC_DECIDER_GUARD_QUESTION_KIND: SemanticDecider
SEMANTIC_DECIDER_NOT_COMPARABLE: SemanticDecider
SEMANTIC_DECIDER_OVERLOADED: SemanticDecider
SEMANTIC_DECIDER_UNAVAILABLE: SemanticDecider
SEMANTIC_DECIDER_EVICTED: SemanticDecider
CACHE_TIER_UNSPECIFIED: CacheTier
CACHE_TIER_L1: CacheTier
CACHE_TIER_L2: CacheTier
CACHE_TIER_L3: CacheTier

class CacheKey(_message.Message):
    __slots__ = ("prompt", "model", "revision", "template_digest", "sampling", "stopping", "output", "constraint", "scope", "session_id", "compressor_version")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    COMPRESSOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    prompt: _common_pb2.Prompt
    model: str
    revision: str
    template_digest: str
    sampling: _common_pb2.SamplingParams
    stopping: _common_pb2.StoppingParams
    output: _common_pb2.OutputParams
    constraint: _common_pb2.Constraint
    scope: _common_pb2.CacheScope
    session_id: str
    compressor_version: str
    def __init__(self, prompt: _Optional[_Union[_common_pb2.Prompt, _Mapping]] = ..., model: _Optional[str] = ..., revision: _Optional[str] = ..., template_digest: _Optional[str] = ..., sampling: _Optional[_Union[_common_pb2.SamplingParams, _Mapping]] = ..., stopping: _Optional[_Union[_common_pb2.StoppingParams, _Mapping]] = ..., output: _Optional[_Union[_common_pb2.OutputParams, _Mapping]] = ..., constraint: _Optional[_Union[_common_pb2.Constraint, _Mapping]] = ..., scope: _Optional[_Union[_common_pb2.CacheScope, str]] = ..., session_id: _Optional[str] = ..., compressor_version: _Optional[str] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("key", "mode", "max_age", "max_error_rate", "single_flight", "regenerates_stale", "wants_prefix_hint")
    KEY_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    MAX_ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    REGENERATES_STALE_FIELD_NUMBER: _ClassVar[int]
    WANTS_PREFIX_HINT_FIELD_NUMBER: _ClassVar[int]
    key: CacheKey
    mode: _common_pb2.CacheMode
    max_age: _duration_pb2.Duration
    max_error_rate: float
    single_flight: bool
    regenerates_stale: bool
    wants_prefix_hint: bool
    def __init__(self, key: _Optional[_Union[CacheKey, _Mapping]] = ..., mode: _Optional[_Union[_common_pb2.CacheMode, str]] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_error_rate: _Optional[float] = ..., single_flight: bool = ..., regenerates_stale: bool = ..., wants_prefix_hint: bool = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("digest", "hit", "miss", "lead", "follow", "semantic", "regenerate", "prefix")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    HIT_FIELD_NUMBER: _ClassVar[int]
    MISS_FIELD_NUMBER: _ClassVar[int]
    LEAD_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    SEMANTIC_FIELD_NUMBER: _ClassVar[int]
    REGENERATE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    hit: Hit
    miss: Miss
    lead: Lead
    follow: FollowTicket
    semantic: SemanticVerdict
    regenerate: Lead
    prefix: PrefixHint
    def __init__(self, digest: _Optional[bytes] = ..., hit: _Optional[_Union[Hit, _Mapping]] = ..., miss: _Optional[_Union[Miss, _Mapping]] = ..., lead: _Optional[_Union[Lead, _Mapping]] = ..., follow: _Optional[_Union[FollowTicket, _Mapping]] = ..., semantic: _Optional[_Union[SemanticVerdict, _Mapping]] = ..., regenerate: _Optional[_Union[Lead, _Mapping]] = ..., prefix: _Optional[_Union[PrefixHint, _Mapping]] = ...) -> None: ...

class PrefixHint(_message.Message):
    __slots__ = ("marks", "holders", "is_noted")
    MARKS_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    IS_NOTED_FIELD_NUMBER: _ClassVar[int]
    marks: bytes
    holders: _containers.RepeatedCompositeFieldContainer[PrefixHolder]
    is_noted: bool
    def __init__(self, marks: _Optional[bytes] = ..., holders: _Optional[_Iterable[_Union[PrefixHolder, _Mapping]]] = ..., is_noted: bool = ...) -> None: ...

class PrefixHolder(_message.Message):
    __slots__ = ("instance", "resident_tokens")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    instance: str
    resident_tokens: int
    def __init__(self, instance: _Optional[str] = ..., resident_tokens: _Optional[int] = ...) -> None: ...

class NotePrefixRequest(_message.Message):
    __slots__ = ("marks", "block_hashes", "block_tokens", "prompt_tokens")
    MARKS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_HASHES_FIELD_NUMBER: _ClassVar[int]
    BLOCK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    marks: bytes
    block_hashes: _containers.RepeatedScalarFieldContainer[int]
    block_tokens: int
    prompt_tokens: int
    def __init__(self, marks: _Optional[bytes] = ..., block_hashes: _Optional[_Iterable[int]] = ..., block_tokens: _Optional[int] = ..., prompt_tokens: _Optional[int] = ...) -> None: ...

class NotePrefixResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SemanticVerdict(_message.Message):
    __slots__ = ("decided_by", "similarity", "error_bound", "problem")
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    ERROR_BOUND_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    decided_by: SemanticDecider
    similarity: float
    error_bound: float
    problem: str
    def __init__(self, decided_by: _Optional[_Union[SemanticDecider, str]] = ..., similarity: _Optional[float] = ..., error_bound: _Optional[float] = ..., problem: _Optional[str] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("answer", "tier", "similarity", "error_bound", "age", "stale")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    ERROR_BOUND_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    answer: StoredAnswer
    tier: CacheTier
    similarity: float
    error_bound: float
    age: _duration_pb2.Duration
    stale: bool
    def __init__(self, answer: _Optional[_Union[StoredAnswer, _Mapping]] = ..., tier: _Optional[_Union[CacheTier, str]] = ..., similarity: _Optional[float] = ..., error_bound: _Optional[float] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., stale: bool = ...) -> None: ...

class Miss(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Lead(_message.Message):
    __slots__ = ("lease_id", "ttl")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    ttl: _duration_pb2.Duration
    def __init__(self, lease_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class FollowTicket(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class StoredEvent(_message.Message):
    __slots__ = ("offset", "delta")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    offset: _duration_pb2.Duration
    delta: _common_pb2.Delta
    def __init__(self, offset: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., delta: _Optional[_Union[_common_pb2.Delta, _Mapping]] = ...) -> None: ...

class StoredAnswer(_message.Message):
    __slots__ = ("events", "finish_reason", "usage", "cost_micro_usd", "model", "revision", "tier")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[StoredEvent]
    finish_reason: _common_pb2.FinishReason
    usage: _common_pb2.Usage
    cost_micro_usd: int
    model: str
    revision: str
    tier: str
    def __init__(self, events: _Optional[_Iterable[_Union[StoredEvent, _Mapping]]] = ..., finish_reason: _Optional[_Union[_common_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_common_pb2.Usage, _Mapping]] = ..., cost_micro_usd: _Optional[int] = ..., model: _Optional[str] = ..., revision: _Optional[str] = ..., tier: _Optional[str] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("digest", "lease_id", "answer", "ttl", "tags")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    lease_id: str
    answer: StoredAnswer
    ttl: _duration_pb2.Duration
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, digest: _Optional[bytes] = ..., lease_id: _Optional[str] = ..., answer: _Optional[_Union[StoredAnswer, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("stored", "reason")
    STORED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    stored: bool
    reason: str
    def __init__(self, stored: bool = ..., reason: _Optional[str] = ...) -> None: ...

class AbandonRequest(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class AbandonResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("lease_id", "events", "first_event")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_EVENT_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    events: _containers.RepeatedCompositeFieldContainer[StoredEvent]
    first_event: int
    def __init__(self, lease_id: _Optional[str] = ..., events: _Optional[_Iterable[_Union[StoredEvent, _Mapping]]] = ..., first_event: _Optional[int] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("ttl", "is_followed")
    TTL_FIELD_NUMBER: _ClassVar[int]
    IS_FOLLOWED_FIELD_NUMBER: _ClassVar[int]
    ttl: _duration_pb2.Duration
    is_followed: bool
    def __init__(self, ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., is_followed: bool = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("lease_id", "from_event")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_EVENT_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    from_event: int
    def __init__(self, lease_id: _Optional[str] = ..., from_event: _Optional[int] = ...) -> None: ...

class FollowResponse(_message.Message):
    __slots__ = ("delta", "finished", "lead")
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    LEAD_FIELD_NUMBER: _ClassVar[int]
    delta: StoredEvent
    finished: StoredAnswer
    lead: Lead
    def __init__(self, delta: _Optional[_Union[StoredEvent, _Mapping]] = ..., finished: _Optional[_Union[StoredAnswer, _Mapping]] = ..., lead: _Optional[_Union[Lead, _Mapping]] = ...) -> None: ...

class InvalidateRequest(_message.Message):
    __slots__ = ("whole_tenant", "revision", "tag", "digest_prefix", "apply", "reason", "idempotency_key")
    WHOLE_TENANT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    DIGEST_PREFIX_FIELD_NUMBER: _ClassVar[int]
    APPLY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    whole_tenant: bool
    revision: str
    tag: str
    digest_prefix: bytes
    apply: bool
    reason: str
    idempotency_key: str
    def __init__(self, whole_tenant: bool = ..., revision: _Optional[str] = ..., tag: _Optional[str] = ..., digest_prefix: _Optional[bytes] = ..., apply: bool = ..., reason: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class InvalidateResponse(_message.Message):
    __slots__ = ("entry_count", "size_bytes", "tiers", "exact", "epoch", "shared")
    ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    entry_count: int
    size_bytes: int
    tiers: _containers.RepeatedCompositeFieldContainer[TierCount]
    exact: bool
    epoch: int
    shared: bool
    def __init__(self, entry_count: _Optional[int] = ..., size_bytes: _Optional[int] = ..., tiers: _Optional[_Iterable[_Union[TierCount, _Mapping]]] = ..., exact: bool = ..., epoch: _Optional[int] = ..., shared: bool = ...) -> None: ...

class TierCount(_message.Message):
    __slots__ = ("tier", "entry_count", "size_bytes", "complete")
    TIER_FIELD_NUMBER: _ClassVar[int]
    ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    tier: CacheTier
    entry_count: int
    size_bytes: int
    complete: bool
    def __init__(self, tier: _Optional[_Union[CacheTier, str]] = ..., entry_count: _Optional[int] = ..., size_bytes: _Optional[int] = ..., complete: bool = ...) -> None: ...

class BumpEpochRequest(_message.Message):
    __slots__ = ("idempotency_key", "reason")
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    reason: str
    def __init__(self, idempotency_key: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class BumpEpochResponse(_message.Message):
    __slots__ = ("epoch", "shared")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    shared: bool
    def __init__(self, epoch: _Optional[int] = ..., shared: bool = ...) -> None: ...

class ListInvalidationsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListInvalidationsResponse(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[InvalidationRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[InvalidationRecord, _Mapping]]] = ...) -> None: ...

class InvalidationRecord(_message.Message):
    __slots__ = ("at", "principal", "selector", "value", "reason", "epoch", "entry_count", "size_bytes", "exact", "shared")
    AT_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    principal: str
    selector: str
    value: str
    reason: str
    epoch: int
    entry_count: int
    size_bytes: int
    exact: bool
    shared: bool
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., principal: _Optional[str] = ..., selector: _Optional[str] = ..., value: _Optional[str] = ..., reason: _Optional[str] = ..., epoch: _Optional[int] = ..., entry_count: _Optional[int] = ..., size_bytes: _Optional[int] = ..., exact: bool = ..., shared: bool = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("entries", "expected_count")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[ExportedEntry]
    expected_count: int
    def __init__(self, entries: _Optional[_Iterable[_Union[ExportedEntry, _Mapping]]] = ..., expected_count: _Optional[int] = ...) -> None: ...

class ExportedEntry(_message.Message):
    __slots__ = ("digest", "answer", "tags", "stored_at", "fresh_until", "expires_at", "epoch")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    STORED_AT_FIELD_NUMBER: _ClassVar[int]
    FRESH_UNTIL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    answer: StoredAnswer
    tags: _containers.RepeatedScalarFieldContainer[str]
    stored_at: _timestamp_pb2.Timestamp
    fresh_until: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    epoch: int
    def __init__(self, digest: _Optional[bytes] = ..., answer: _Optional[_Union[StoredAnswer, _Mapping]] = ..., tags: _Optional[_Iterable[str]] = ..., stored_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., fresh_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., epoch: _Optional[int] = ...) -> None: ...

class ImportRequest(_message.Message):
    __slots__ = ("entries", "as_new")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    AS_NEW_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[ExportedEntry]
    as_new: bool
    def __init__(self, entries: _Optional[_Iterable[_Union[ExportedEntry, _Mapping]]] = ..., as_new: bool = ...) -> None: ...

class ImportResponse(_message.Message):
    __slots__ = ("stored_count", "expired_count", "invalidated_count", "refused_count")
    STORED_COUNT_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_COUNT_FIELD_NUMBER: _ClassVar[int]
    INVALIDATED_COUNT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_COUNT_FIELD_NUMBER: _ClassVar[int]
    stored_count: int
    expired_count: int
    invalidated_count: int
    refused_count: int
    def __init__(self, stored_count: _Optional[int] = ..., expired_count: _Optional[int] = ..., invalidated_count: _Optional[int] = ..., refused_count: _Optional[int] = ...) -> None: ...

class ReportFalseHitRequest(_message.Message):
    __slots__ = ("digest", "decision_id", "idempotency_key")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    decision_id: str
    idempotency_key: str
    def __init__(self, digest: _Optional[bytes] = ..., decision_id: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class ReportFalseHitResponse(_message.Message):
    __slots__ = ("known",)
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    known: bool
    def __init__(self, known: bool = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatsResponse(_message.Message):
    __slots__ = ("tiers", "started_at")
    TIERS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    tiers: _containers.RepeatedCompositeFieldContainer[TierStats]
    started_at: _timestamp_pb2.Timestamp
    def __init__(self, tiers: _Optional[_Iterable[_Union[TierStats, _Mapping]]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TierStats(_message.Message):
    __slots__ = ("tier", "lookup_count", "hit_count", "entry_count", "size_bytes", "budget_bytes", "eviction_count", "unreadable_count", "error_count")
    TIER_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_COUNT_FIELD_NUMBER: _ClassVar[int]
    HIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    EVICTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_COUNT_FIELD_NUMBER: _ClassVar[int]
    tier: CacheTier
    lookup_count: int
    hit_count: int
    entry_count: int
    size_bytes: int
    budget_bytes: int
    eviction_count: int
    unreadable_count: int
    error_count: int
    def __init__(self, tier: _Optional[_Union[CacheTier, str]] = ..., lookup_count: _Optional[int] = ..., hit_count: _Optional[int] = ..., entry_count: _Optional[int] = ..., size_bytes: _Optional[int] = ..., budget_bytes: _Optional[int] = ..., eviction_count: _Optional[int] = ..., unreadable_count: _Optional[int] = ..., error_count: _Optional[int] = ...) -> None: ...
