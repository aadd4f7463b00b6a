"""From a GenerateRequest to a Question: every value checked at the door, what is not built yet refused."""

from __future__ import annotations

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2
from meshkit.errors import NotBuilt
from meshkit.incoming import IncomingCall
from services.router.checking import check_options, check_prompt, check_scope, seconds
from services.router.question import Objectives, Question
from services.router.settings import LimitSettings

_MODES = {
    common_pb2.COMPRESSION_MODE_UNSPECIFIED: "lossless",
    common_pb2.COMPRESSION_MODE_LOSSLESS: "lossless",
    common_pb2.COMPRESSION_MODE_OFF: "off",
    common_pb2.COMPRESSION_MODE_SELECTIVE: "selective",
    common_pb2.COMPRESSION_MODE_ABSTRACTIVE: "abstractive",
}


def question_of(request: router_service_pb2.GenerateRequest, call: IncomingCall, allowed: LimitSettings) -> Question:
    """Raises InvalidRequest with field and limit, or NotBuilt with the reason."""
    check_prompt(request.prompt, allowed)
    check_options(request)
    check_scope(request, call.principal)
    _refuse_what_is_not_built(request)
    mode = _MODES[request.compression.mode]
    remaining_s = call.remaining_s()
    return Question(
        payload=request,
        tenant=call.tenant,
        principal=call.principal,
        trace_id=call.trace_id,
        prompt_characters=_character_count(request.prompt),
        prompt_token_count=len(request.prompt.token_ids.ids),
        model=request.model,
        tier=request.tier,
        pinned_instance=request.route.pin,
        priority=request.route.priority,
        uses_cache=request.cache.mode != common_pb2.CACHE_MODE_OFF,
        stores_answer=not request.cache.no_store,
        replays_paced=request.cache.replay == router_service_pb2.REPLAY_PACED,
        answer_ttl_s=seconds(request.cache, "ttl"),
        is_compressible=mode != "off",
        compression_mode=mode,
        compression_bounds=_compression_bounds(request.compression),
        objectives=Objectives(
            ttft_s=seconds(request.slo, "ttft"),
            tpot_s=seconds(request.slo, "tpot"),
            e2e_s=seconds(request.slo, "e2e"),
        ),
        labels=dict(request.labels),
        idempotency_key=request.idempotency_key,
        arrived_at=call.arrived_at,
        timeout_s=allowed.default_timeout_s if remaining_s is None else remaining_s,
    )


def _compression_bounds(policy: router_service_pb2.CompressionPolicy) -> str:
    """All bounds that change what the reader is sent, as one canonical text."""
    bounds = router_service_pb2.CompressionPolicy()
    bounds.CopyFrom(policy)
    bounds.ClearField("mode")
    return bounds.SerializeToString(deterministic=True).hex()


def _character_count(prompt: common_pb2.Prompt) -> int:
    return len(prompt.text) + sum(len(turn.content) for turn in prompt.messages.messages)


def _refuse_what_is_not_built(request: router_service_pb2.GenerateRequest) -> None:
    """Nothing that was asked for is dropped in silence."""
    asked = {
        "constraint": request.HasField("constraint"),
        "prompt.tools": bool(request.prompt.tools),
        "budget": request.HasField("budget"),
        "output.prompt_logprobs": request.output.HasField("prompt_logprobs"),
        "route.min_quality": request.route.HasField("min_quality"),
        "route.cascade": request.route.cascade,
        "route.hedge": request.route.hedge,
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise NotBuilt(f"{name}: this version of the router does not have it yet; leave it out")
