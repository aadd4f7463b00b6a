"""From a GenerateRequest to a Question: every value checked at the door, what is not built yet refused."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2
from meshkit import limits
from meshkit.errors import InvalidRequest, NotBuilt
from meshkit.incoming import IncomingCall
from services.router.question import Objectives, Question
from services.router.settings import LimitSettings

_MODES = {
    common_pb2.COMPRESSION_MODE_UNSPECIFIED: "lossless",
    common_pb2.COMPRESSION_MODE_LOSSLESS: "lossless",
    common_pb2.COMPRESSION_MODE_OFF: "off",
}
_MAX_NAME_CHARACTERS = 256


def question_of(request: router_service_pb2.GenerateRequest, call: IncomingCall, allowed: LimitSettings) -> Question:
    """Raises InvalidRequest with field and limit, or NotBuilt with the reason."""
    check_prompt(request.prompt, allowed)
    _check_options(request, allowed)
    _check_scope(request, call)
    _refuse_what_is_not_built(request)
    mode = _MODES[request.compression.mode]
    remaining_s = call.remaining_s()
    return Question(
        payload=request,
        tenant=call.tenant,
        principal=call.principal,
        trace_id=call.trace_id,
        prompt_characters=_character_count(request.prompt),
        model=request.model,
        tier=request.tier,
        pinned_instance=request.route.pin,
        priority=request.route.priority,
        uses_cache=request.cache.mode != common_pb2.CACHE_MODE_OFF,
        stores_answer=not request.cache.no_store,
        is_compressible=mode != "off",
        compression_mode=mode,
        objectives=Objectives(
            ttft_s=_seconds(request.slo, "ttft"),
            tpot_s=_seconds(request.slo, "tpot"),
            e2e_s=_seconds(request.slo, "e2e"),
        ),
        idempotency_key=request.idempotency_key,
        arrived_at=call.arrived_at,
        timeout_s=allowed.default_timeout_s if remaining_s is None else remaining_s,
    )


def check_prompt(prompt: common_pb2.Prompt, allowed: LimitSettings) -> None:
    """Raise InvalidRequest for a prompt that nobody could answer, by its form and size alone."""
    kind = prompt.WhichOneof("input")
    if kind is None:
        raise InvalidRequest("is empty", field="prompt", limit="one of messages, text, token_ids")
    if kind == "text":
        _check_size(len(prompt.text.encode()), "prompt.text", allowed)
    elif kind == "messages":
        turns = prompt.messages.messages
        limits.check_count(len(turns), most=limits.MAX_TURNS, field="prompt.messages.messages")
        _check_size(sum(len(turn.content.encode()) for turn in turns), "prompt.messages.messages", allowed)
    elif not prompt.token_ids.ids:
        raise InvalidRequest("is empty", field="prompt.token_ids.ids", limit="at least 1 token")


def _character_count(prompt: common_pb2.Prompt) -> int:
    return len(prompt.text) + sum(len(turn.content) for turn in prompt.messages.messages)


def _check_size(size_bytes: int, field: str, allowed: LimitSettings) -> None:
    if size_bytes == 0:
        raise InvalidRequest("is empty", field=field, limit="at least 1 character")
    if size_bytes > allowed.max_prompt_bytes:
        limit = f"at most {allowed.max_prompt_bytes} bytes"
        raise InvalidRequest(f"{size_bytes} bytes are too many", field=field, limit=limit)


def _check_options(request: router_service_pb2.GenerateRequest, allowed: LimitSettings) -> None:
    limits.check_sampling(request.sampling)
    limits.check_stopping(request.stopping)
    limits.check_output(request.output)
    limits.Range(field="route.priority", low=-10, high=10).check(request.route.priority)
    for field in ("model", "tier", "session_id", "idempotency_key"):
        if len(getattr(request, field)) > _MAX_NAME_CHARACTERS:
            raise InvalidRequest("is too long", field=field, limit=f"at most {_MAX_NAME_CHARACTERS} characters")
    for field in ("ttft", "tpot", "e2e"):
        seconds = _seconds(request.slo, field)
        if seconds is not None and seconds <= 0:
            raise InvalidRequest(f"{seconds:g} s is out of range", field=f"slo.{field}", limit="more than 0 s")


def _check_scope(request: router_service_pb2.GenerateRequest, call: IncomingCall) -> None:
    if request.cache.scope == common_pb2.CACHE_SCOPE_PRINCIPAL and not call.principal:
        raise InvalidRequest("PRINCIPAL needs a verified identity", field="cache.scope", limit="TENANT or SESSION")
    if request.cache.scope == common_pb2.CACHE_SCOPE_SESSION and not request.session_id:
        raise InvalidRequest("SESSION needs a session_id", field="cache.scope", limit="a session_id")


def _refuse_what_is_not_built(request: router_service_pb2.GenerateRequest) -> None:
    """Nothing that was asked for is dropped in silence."""
    asked = {
        "constraint": request.HasField("constraint"),
        "prompt.tools": bool(request.prompt.tools),
        "budget": request.HasField("budget"),
        "cache.mode SEMANTIC": request.cache.mode == common_pb2.CACHE_MODE_SEMANTIC,
        "compression.mode SELECTIVE": request.compression.mode == common_pb2.COMPRESSION_MODE_SELECTIVE,
        "compression.target_ratio": request.compression.HasField("target_ratio"),
        "route.min_quality": request.route.HasField("min_quality"),
        "route.cascade": request.route.cascade,
        "route.hedge": request.route.hedge,
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise NotBuilt(f"{name}: this version of the router does not have it yet; leave it out")


def _seconds(slo: router_service_pb2.Slo, field: str) -> float | None:
    if not slo.HasField(field):
        return None
    span: Duration = getattr(slo, field)
    return span.ToNanoseconds() / 1e9
