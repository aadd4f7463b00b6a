"""Every bad value is refused with field and limit; nothing that was asked for is dropped in silence."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2 as pb
from meshkit.errors import InvalidRequest, NotBuilt
from meshkit.incoming import IncomingCall
from services.router.asking import question_of
from services.router.question import Question
from services.router.settings import LimitSettings

NAN = float("nan")


def ask(**fields: Any) -> Question:
    fields.setdefault("prompt", {"text": "Hello"})
    call = IncomingCall(method="/mesh.router.v1.RouterService/Generate", tenant="t", trace_id="1" * 32)
    return question_of(pb.GenerateRequest(**fields), call, LimitSettings(max_prompt_bytes=1000))


def test_a_prompt_alone_is_a_valid_question() -> None:
    asked = ask()
    assert (asked.tenant, asked.model, asked.uses_cache, asked.is_compressible) == ("t", "", True, True)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": {}}, "prompt"),
        ({"prompt": {"text": ""}}, "prompt.text"),
        ({"prompt": {"text": "x" * 1001}}, "prompt.text"),
        ({"prompt": {"messages": {}}}, "prompt.messages.messages"),
        ({"prompt": {"token_ids": {}}}, "prompt.token_ids.ids"),
        ({"sampling": {"temperature": -0.1}}, "sampling.temperature"),
        ({"sampling": {"temperature": NAN}}, "sampling.temperature"),
        ({"sampling": {"temperature": float("inf")}}, "sampling.temperature"),
        ({"sampling": {"top_p": 0}}, "sampling.top_p"),
        ({"sampling": {"top_p": 1.5}}, "sampling.top_p"),
        ({"sampling": {"top_k": -2}}, "sampling.top_k"),
        ({"sampling": {"min_p": NAN}}, "sampling.min_p"),
        ({"sampling": {"repetition_penalty": 0}}, "sampling.repetition_penalty"),
        ({"sampling": {"presence_penalty": 3}}, "sampling.presence_penalty"),
        ({"sampling": {"frequency_penalty": -3}}, "sampling.frequency_penalty"),
        ({"sampling": {"n": 0}}, "sampling.n"),
        ({"sampling": {"logit_bias": {1: 101}}}, "sampling.logit_bias"),
        ({"stopping": {"max_tokens": 0}}, "stopping.max_tokens"),
        ({"stopping": {"max_tokens": 2**31 - 1}}, "stopping.max_tokens"),
        ({"stopping": {"max_tokens": 5, "min_tokens": 6}}, "stopping.min_tokens"),
        ({"stopping": {"stop": [""]}}, "stopping.stop[0]"),
        ({"output": {"logprobs": -1}}, "output.logprobs"),
        ({"route": {"priority": 11}}, "route.priority"),
        ({"slo": {"ttft": {"seconds": -1}}}, "slo.ttft"),
        ({"model": "m" * 300}, "model"),
        ({"cache": {"mode": 99}}, "cache.mode"),
        ({"cache": {"scope": 99}}, "cache.scope"),
        ({"cache": {"replay": 99}}, "cache.replay"),
        ({"cache": {"replay": -1}}, "cache.replay"),
        ({"compression": {"mode": 9}}, "compression.mode"),
        ({"compression": {"frozen_prefix": -1}}, "compression.frozen_prefix"),
        ({"compression": {"target_ratio": 0.0}}, "compression.target_ratio"),
        ({"compression": {"target_ratio": float("nan")}}, "compression.target_ratio"),
        ({"compression": {"min_quality": 1.1}}, "compression.min_quality"),
        ({"cache": {"max_age": {"seconds": -1}}}, "cache.max_age"),
        ({"cache": {"ttl": {"seconds": -5}}}, "cache.ttl"),
        ({"labels": {str(number): "" for number in range(17)}}, "labels"),
        ({"labels": {"team": "x" * 300}}, "labels"),
        ({"prompt": {"token_ids": {"ids": [70_000] * 1000}}}, "prompt.token_ids.ids"),
        ({"prompt": {"messages": {"messages": [{"role": "user"}]}}}, "prompt.messages.messages"),
        ({"cache": {"scope": common_pb2.CACHE_SCOPE_PRINCIPAL}}, "cache.scope"),
        ({"cache": {"scope": common_pb2.CACHE_SCOPE_SESSION}}, "cache.scope"),
        ({"cache": {"max_error_rate": 1.5}}, "cache.max_error_rate"),
        ({"cache": {"max_error_rate": float("nan")}}, "cache.max_error_rate"),
    ],
)
def test_a_bad_value_is_refused_with_field_and_limit(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask(**fields)
    assert refused.value.field == field
    assert refused.value.limit and field in refused.value.message


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"constraint": {"regex": "a+"}}, "constraint"),
        ({"output": {"prompt_logprobs": 1}}, "output.prompt_logprobs"),
        ({"prompt": {"text": "x", "tools": [{"name": "f"}]}}, "prompt.tools"),
        ({"budget": {"max_cost_micro_usd": 5}}, "budget"),
        ({"route": {"min_quality": 0.9}}, "route.min_quality"),
        ({"route": {"cascade": True}}, "route.cascade"),
        ({"route": {"hedge": True}}, "route.hedge"),
    ],
)
def test_what_is_not_built_is_refused_by_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(NotBuilt, match=name):
        ask(**fields)


def test_only_mode_off_keeps_the_cache_out() -> None:
    assert ask().uses_cache
    assert not ask(cache={"mode": common_pb2.CACHE_MODE_OFF}).uses_cache


def test_the_bounds_of_compression_tell_apart_what_sends_different_prompts() -> None:
    policies: list[dict[str, Any]] = [
        {},
        {"target_ratio": 0.5},
        {"target_ratio": 0.4},
        {"min_quality": 0.5},
        {"protect": ["a", "b"]},
        {"protect": ["ab"]},
        {"frozen_prefix": 3},
    ]
    asked = [ask(compression={"mode": common_pb2.COMPRESSION_MODE_SELECTIVE, **policy}) for policy in policies]
    assert {one.compression_mode for one in asked} == {"selective"}
    assert len({one.compression_bounds for one in asked}) == len(policies)
