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

class LossClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOSS_CLASS_UNSPECIFIED: _ClassVar[LossClass]
    LOSS_CLASS_LOSSLESS: _ClassVar[LossClass]
    LOSS_CLASS_SELECTIVE: _ClassVar[LossClass]
    LOSS_CLASS_ABSTRACTIVE: _ClassVar[LossClass]
LOSS_CLASS_UNSPECIFIED: LossClass
LOSS_CLASS_LOSSLESS: LossClass
LOSS_CLASS_SELECTIVE: LossClass
LOSS_CLASS_ABSTRACTIVE: LossClass

class CompressRequest(_message.Message):
    __slots__ = ("prompt", "model", "mode", "target_ratio", "min_quality", "protect", "frozen_prefix", "session_id", "with_handles", "prices")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    TARGET_RATIO_FIELD_NUMBER: _ClassVar[int]
    MIN_QUALITY_FIELD_NUMBER: _ClassVar[int]
    PROTECT_FIELD_NUMBER: _ClassVar[int]
    FROZEN_PREFIX_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    WITH_HANDLES_FIELD_NUMBER: _ClassVar[int]
    PRICES_FIELD_NUMBER: _ClassVar[int]
    prompt: _common_pb2.Prompt
    model: str
    mode: _common_pb2.CompressionMode
    target_ratio: float
    min_quality: float
    protect: _containers.RepeatedScalarFieldContainer[str]
    frozen_prefix: int
    session_id: str
    with_handles: bool
    prices: InputPrices
    def __init__(self, prompt: _Optional[_Union[_common_pb2.Prompt, _Mapping]] = ..., model: _Optional[str] = ..., mode: _Optional[_Union[_common_pb2.CompressionMode, str]] = ..., target_ratio: _Optional[float] = ..., min_quality: _Optional[float] = ..., protect: _Optional[_Iterable[str]] = ..., frozen_prefix: _Optional[int] = ..., session_id: _Optional[str] = ..., with_handles: bool = ..., prices: _Optional[_Union[InputPrices, _Mapping]] = ...) -> None: ...

class InputPrices(_message.Message):
    __slots__ = ("input_micro_usd", "cached_input_micro_usd")
    INPUT_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    CACHED_INPUT_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    input_micro_usd: int
    cached_input_micro_usd: int
    def __init__(self, input_micro_usd: _Optional[int] = ..., cached_input_micro_usd: _Optional[int] = ...) -> None: ...

class CompressResponse(_message.Message):
    __slots__ = ("compressed", "original_tokens", "compressed_tokens", "token_reduction", "quality_score", "quality_interval", "cache_eligible", "stages", "handles", "reason_original_kept", "version", "counts_are_estimates", "net_benefit_micro_usd")
    COMPRESSED_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPRESSED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_REDUCTION_FIELD_NUMBER: _ClassVar[int]
    QUALITY_SCORE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    CACHE_ELIGIBLE_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    REASON_ORIGINAL_KEPT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COUNTS_ARE_ESTIMATES_FIELD_NUMBER: _ClassVar[int]
    NET_BENEFIT_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    compressed: _common_pb2.Prompt
    original_tokens: int
    compressed_tokens: int
    token_reduction: float
    quality_score: float
    quality_interval: Interval
    cache_eligible: bool
    stages: _containers.RepeatedCompositeFieldContainer[StageReport]
    handles: _containers.RepeatedScalarFieldContainer[str]
    reason_original_kept: str
    version: str
    counts_are_estimates: bool
    net_benefit_micro_usd: int
    def __init__(self, compressed: _Optional[_Union[_common_pb2.Prompt, _Mapping]] = ..., original_tokens: _Optional[int] = ..., compressed_tokens: _Optional[int] = ..., token_reduction: _Optional[float] = ..., quality_score: _Optional[float] = ..., quality_interval: _Optional[_Union[Interval, _Mapping]] = ..., cache_eligible: bool = ..., stages: _Optional[_Iterable[_Union[StageReport, _Mapping]]] = ..., handles: _Optional[_Iterable[str]] = ..., reason_original_kept: _Optional[str] = ..., version: _Optional[str] = ..., counts_are_estimates: bool = ..., net_benefit_micro_usd: _Optional[int] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class StageReport(_message.Message):
    __slots__ = ("stage", "tokens_before", "tokens_after", "duration", "loss_class", "segment_count")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_AFTER_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    LOSS_CLASS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    stage: str
    tokens_before: int
    tokens_after: int
    duration: _duration_pb2.Duration
    loss_class: LossClass
    segment_count: int
    def __init__(self, stage: _Optional[str] = ..., tokens_before: _Optional[int] = ..., tokens_after: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., loss_class: _Optional[_Union[LossClass, str]] = ..., segment_count: _Optional[int] = ...) -> None: ...

class CompressBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[CompressRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[CompressRequest, _Mapping]]] = ...) -> None: ...

class CompressBatchResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[CompressResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[CompressResponse, _Mapping]]] = ...) -> None: ...

class PreviewRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: CompressRequest
    def __init__(self, request: _Optional[_Union[CompressRequest, _Mapping]] = ...) -> None: ...

class PreviewResponse(_message.Message):
    __slots__ = ("response",)
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    response: CompressResponse
    def __init__(self, response: _Optional[_Union[CompressResponse, _Mapping]] = ...) -> None: ...

class ExpandRequest(_message.Message):
    __slots__ = ("handle",)
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    handle: str
    def __init__(self, handle: _Optional[str] = ...) -> None: ...

class ExpandResponse(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class ListStrategiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListStrategiesResponse(_message.Message):
    __slots__ = ("strategies",)
    STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    strategies: _containers.RepeatedCompositeFieldContainer[Strategy]
    def __init__(self, strategies: _Optional[_Iterable[_Union[Strategy, _Mapping]]] = ...) -> None: ...

class Strategy(_message.Message):
    __slots__ = ("name", "description", "loss_class")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LOSS_CLASS_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    loss_class: LossClass
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., loss_class: _Optional[_Union[LossClass, str]] = ...) -> None: ...
