import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RolloutState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_STATE_UNSPECIFIED: _ClassVar[RolloutState]
    ROLLOUT_STATE_RUNNING: _ClassVar[RolloutState]
    ROLLOUT_STATE_DONE: _ClassVar[RolloutState]
    ROLLOUT_STATE_ROLLED_BACK: _ClassVar[RolloutState]
ROLLOUT_STATE_UNSPECIFIED: RolloutState
ROLLOUT_STATE_RUNNING: RolloutState
ROLLOUT_STATE_DONE: RolloutState
ROLLOUT_STATE_ROLLED_BACK: RolloutState

class GetScalingPlanRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class GetScalingPlanResponse(_message.Message):
    __slots__ = ("targets",)
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    targets: _containers.RepeatedCompositeFieldContainer[ScalingTarget]
    def __init__(self, targets: _Optional[_Iterable[_Union[ScalingTarget, _Mapping]]] = ...) -> None: ...

class ScalingTarget(_message.Message):
    __slots__ = ("model", "current_count", "wanted_count", "forecast_tokens_per_second", "lead", "reason")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CURRENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    WANTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FORECAST_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    LEAD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model: str
    current_count: int
    wanted_count: int
    forecast_tokens_per_second: float
    lead: _duration_pb2.Duration
    reason: str
    def __init__(self, model: _Optional[str] = ..., current_count: _Optional[int] = ..., wanted_count: _Optional[int] = ..., forecast_tokens_per_second: _Optional[float] = ..., lead: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class StartRolloutRequest(_message.Message):
    __slots__ = ("name", "revision", "steps", "step_time", "idempotency_key")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEP_TIME_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    name: str
    revision: str
    steps: _containers.RepeatedScalarFieldContainer[float]
    step_time: _duration_pb2.Duration
    idempotency_key: str
    def __init__(self, name: _Optional[str] = ..., revision: _Optional[str] = ..., steps: _Optional[_Iterable[float]] = ..., step_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class StartRolloutResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class GetRolloutRequest(_message.Message):
    __slots__ = ("rollout_id",)
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    rollout_id: str
    def __init__(self, rollout_id: _Optional[str] = ...) -> None: ...

class GetRolloutResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("rollout_id", "state", "share", "reason")
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    rollout_id: str
    state: RolloutState
    share: float
    reason: str
    def __init__(self, rollout_id: _Optional[str] = ..., state: _Optional[_Union[RolloutState, str]] = ..., share: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("rollout_id", "reason", "idempotency_key")
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    rollout_id: str
    reason: str
    idempotency_key: str
    def __init__(self, rollout_id: _Optional[str] = ..., reason: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class RollBackResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class GetBudgetRequest(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    def __init__(self, tenant: _Optional[str] = ...) -> None: ...

class GetBudgetResponse(_message.Message):
    __slots__ = ("budget",)
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    budget: TenantBudget
    def __init__(self, budget: _Optional[_Union[TenantBudget, _Mapping]] = ...) -> None: ...

class SetBudgetRequest(_message.Message):
    __slots__ = ("tenant", "limit_micro_usd", "period", "idempotency_key")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    limit_micro_usd: int
    period: _duration_pb2.Duration
    idempotency_key: str
    def __init__(self, tenant: _Optional[str] = ..., limit_micro_usd: _Optional[int] = ..., period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class SetBudgetResponse(_message.Message):
    __slots__ = ("budget",)
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    budget: TenantBudget
    def __init__(self, budget: _Optional[_Union[TenantBudget, _Mapping]] = ...) -> None: ...

class TenantBudget(_message.Message):
    __slots__ = ("tenant", "limit_micro_usd", "spent_micro_usd", "reserved_micro_usd", "period_end")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    SPENT_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    RESERVED_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    PERIOD_END_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    limit_micro_usd: int
    spent_micro_usd: int
    reserved_micro_usd: int
    period_end: _timestamp_pb2.Timestamp
    def __init__(self, tenant: _Optional[str] = ..., limit_micro_usd: _Optional[int] = ..., spent_micro_usd: _Optional[int] = ..., reserved_micro_usd: _Optional[int] = ..., period_end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListObjectivesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListObjectivesResponse(_message.Message):
    __slots__ = ("objectives",)
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    objectives: _containers.RepeatedCompositeFieldContainer[Objective]
    def __init__(self, objectives: _Optional[_Iterable[_Union[Objective, _Mapping]]] = ...) -> None: ...

class Objective(_message.Message):
    __slots__ = ("name", "target", "attained", "burn_rate", "window")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ATTAINED_FIELD_NUMBER: _ClassVar[int]
    BURN_RATE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    name: str
    target: float
    attained: float
    burn_rate: float
    window: _duration_pb2.Duration
    def __init__(self, name: _Optional[str] = ..., target: _Optional[float] = ..., attained: _Optional[float] = ..., burn_rate: _Optional[float] = ..., window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetSavingsRequest(_message.Message):
    __slots__ = ("start", "end", "tenant")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    tenant: str
    def __init__(self, start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tenant: _Optional[str] = ...) -> None: ...

class GetSavingsResponse(_message.Message):
    __slots__ = ("spent_micro_usd", "counterfactual_micro_usd", "savings")
    SPENT_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    COUNTERFACTUAL_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    SAVINGS_FIELD_NUMBER: _ClassVar[int]
    spent_micro_usd: int
    counterfactual_micro_usd: int
    savings: _containers.RepeatedCompositeFieldContainer[Saving]
    def __init__(self, spent_micro_usd: _Optional[int] = ..., counterfactual_micro_usd: _Optional[int] = ..., savings: _Optional[_Iterable[_Union[Saving, _Mapping]]] = ...) -> None: ...

class Saving(_message.Message):
    __slots__ = ("mechanism", "saved_micro_usd")
    MECHANISM_FIELD_NUMBER: _ClassVar[int]
    SAVED_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    mechanism: str
    saved_micro_usd: int
    def __init__(self, mechanism: _Optional[str] = ..., saved_micro_usd: _Optional[int] = ...) -> None: ...
