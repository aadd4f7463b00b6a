"""Whether a GenerateRequest is valid by its own values alone; which model serves it is not looked at."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2
from meshkit import limits
from meshkit.errors import InvalidRequest
from services.router.settings import LimitSettings

_MAX_NAME_CHARACTERS = 256
_MAX_LABELS = 16
_PRIORITY = limits.Range(field="route.priority", low=-10, high=10)
_FROZEN_PREFIX = limits.Range(field="compression.frozen_prefix", low=0, high=2**31 - 1)
_TARGET_RATIO = limits.Range(field="compression.target_ratio", low=0, high=1, excludes_low=True)
_MIN_QUALITY = limits.Range(field="compression.min_quality", low=0, high=1)
_MAX_ERROR_RATE = limits.Range(field="cache.max_error_rate", low=0, high=1)
_CACHE_MODES = frozenset(common_pb2.CacheMode.values())
_CACHE_SCOPES = frozenset(common_pb2.CacheScope.values())
_REPLAYS = frozenset(router_service_pb2.Replay.values())
_COMPRESSION_MODES = frozenset(common_pb2.CompressionMode.values())


def check_prompt(prompt: common_pb2.Prompt, allowed: LimitSettings) -> None:
    """Raise InvalidRequest for a prompt that nobody could answer, by its form and size alone."""
    kind = prompt.WhichOneof("input")
    if kind is None:
        raise InvalidRequest("is empty", field="prompt", limit="one of messages, text, token_ids")
    field, content = {
        "text": ("prompt.text", prompt.text),
        "messages": ("prompt.messages.messages", [turn for turn in prompt.messages.messages if _says_something(turn)]),
        "token_ids": ("prompt.token_ids.ids", prompt.token_ids.ids),
    }[kind]
    if not content:
        raise InvalidRequest("is empty", field=field, limit="at least 1")
    limits.check_count(len(prompt.messages.messages), most=limits.MAX_TURNS, field="prompt.messages.messages")
    if (size_bytes := prompt.ByteSize()) > allowed.max_prompt_bytes:
        limit = f"at most {allowed.max_prompt_bytes} bytes"
        raise InvalidRequest(f"{size_bytes} bytes are too many", field=field, limit=limit)


def check_options(request: router_service_pb2.GenerateRequest) -> None:
    """Raise InvalidRequest for the first option out of range."""
    limits.check_sampling(request.sampling)
    limits.check_stopping(request.stopping)
    limits.check_output(request.output)
    _PRIORITY.check(request.route.priority)
    _FROZEN_PREFIX.check(request.compression.frozen_prefix)
    compression = request.compression
    _TARGET_RATIO.check(compression.target_ratio if compression.HasField("target_ratio") else None)
    _MIN_QUALITY.check(compression.min_quality if compression.HasField("min_quality") else None)
    _MAX_ERROR_RATE.check(request.cache.max_error_rate)
    _check_known("cache.mode", request.cache.mode, _CACHE_MODES, common_pb2.CacheMode)
    _check_known("cache.scope", request.cache.scope, _CACHE_SCOPES, common_pb2.CacheScope)
    _check_known("cache.replay", request.cache.replay, _REPLAYS, router_service_pb2.Replay)
    _check_known("compression.mode", request.compression.mode, _COMPRESSION_MODES, common_pb2.CompressionMode)
    _check_names(request)
    for group, field in (("slo", "ttft"), ("slo", "tpot"), ("slo", "e2e"), ("cache", "max_age"), ("cache", "ttl")):
        value = seconds(getattr(request, group), field)
        if value is not None and value <= 0:
            raise InvalidRequest(f"{value:g} s is out of range", field=f"{group}.{field}", limit="more than 0 s")


def check_scope(request: router_service_pb2.GenerateRequest, principal: str) -> None:
    """Raise InvalidRequest for a cache scope that names nobody."""
    if request.cache.scope == common_pb2.CACHE_SCOPE_PRINCIPAL and not principal:
        raise InvalidRequest("PRINCIPAL needs a verified identity", field="cache.scope", limit="TENANT or SESSION")
    if request.cache.scope == common_pb2.CACHE_SCOPE_SESSION and not request.session_id:
        raise InvalidRequest("SESSION needs a session_id", field="cache.scope", limit="a session_id")


def seconds(group: Any, field: str) -> float | None:
    """A Duration field in seconds; None where it is absent."""
    if not group.HasField(field):
        return None
    span: Duration = getattr(group, field)
    return span.seconds + span.nanos / 1e9


def _says_something(turn: common_pb2.Message) -> bool:
    return bool(turn.content or turn.tool_calls)


def _check_known(field: str, number: int, known: frozenset[int], kind: Any) -> None:
    if number not in known:
        raise InvalidRequest(f"{number} is not known", field=field, limit=f"one of {', '.join(kind.keys())}")


def _check_names(request: router_service_pb2.GenerateRequest) -> None:
    for field in ("model", "tier", "session_id", "idempotency_key"):
        if len(getattr(request, field)) > _MAX_NAME_CHARACTERS:
            raise InvalidRequest("is too long", field=field, limit=f"at most {_MAX_NAME_CHARACTERS} characters")
    limits.check_count(len(request.labels), most=_MAX_LABELS, field="labels")
    for key, value in request.labels.items():
        if not key or max(len(key), len(value)) > _MAX_NAME_CHARACTERS:
            limit = f"keys and values of at most {_MAX_NAME_CHARACTERS} characters"
            raise InvalidRequest("a key is empty or an entry too long", field="labels", limit=limit)
