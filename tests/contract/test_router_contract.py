"""The router over real gRPC: servers for router, cache and inference (echo engine), registry in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2 as pb
from services.router.settings import TierSettings
from tests.support.small_mesh import SmallMesh, small_mesh

WITHIN_S = 0.05


@pytest.fixture
async def mesh() -> AsyncIterator[SmallMesh]:
    async with small_mesh() as running:
        yield running


@pytest.fixture
async def slow_mesh() -> AsyncIterator[SmallMesh]:
    async with small_mesh(tokens_per_s=50) as running:
        yield running


async def events_of(mesh: SmallMesh, **fields: Any) -> list[pb.GenerateEvent]:
    fields.setdefault("prompt", {"text": "Hello there"})
    return [event async for event in mesh.stub.Generate(pb.GenerateRequest(**fields), timeout=10)]


def round_half_up(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_HALF_UP))


def text_of(events: list[pb.GenerateEvent]) -> str:
    return "".join(event.delta.text for event in events)


async def test_a_prompt_alone_gives_accepted_deltas_finished(mesh: SmallMesh) -> None:
    events = await events_of(mesh)
    assert [event.seq for event in events] == list(range(len(events)))
    assert events[0].accepted.model == "tiny" and events[0].accepted.instance
    assert events[0].accepted.cache_status == common_pb2.CACHE_STATUS_BYPASS
    assert "Hello there" in text_of(events)
    finished = events[-1].finished
    assert finished.finish_reason in (common_pb2.FINISH_REASON_STOP, common_pb2.FINISH_REASON_LENGTH)
    assert finished.usage.prompt_tokens > 0 and finished.usage.completion_tokens > 0
    assert finished.timings.total.ToNanoseconds() >= finished.timings.first_token.ToNanoseconds() > 0
    price = TierSettings()
    spent = Decimal(finished.usage.prompt_tokens * price.input_price_micro_usd) / 1_000_000
    made = Decimal(finished.usage.completion_tokens * price.output_price_micro_usd) / 1_000_000
    assert finished.cost.total == round_half_up(spent) + round_half_up(made) > 0
    assert len(finished.trace_id) == 32


async def test_at_temperature_0_the_same_again_is_a_hit_with_the_same_text(mesh: SmallMesh) -> None:
    first = await events_of(mesh, sampling={"temperature": 0})
    second = await events_of(mesh, sampling={"temperature": 0})
    assert first[0].accepted.cache_status == common_pb2.CACHE_STATUS_LEAD
    assert second[0].accepted.cache_status == common_pb2.CACHE_STATUS_HIT
    assert text_of(second) == text_of(first)
    assert second[-1].finished.cost.total == 0
    assert second[-1].finished.usage.completion_tokens == first[-1].finished.usage.completion_tokens
    assert second[-1].finished.timings.attempts == 0


async def test_a_look_up_by_meaning_finds_what_was_asked_in_the_same_words(mesh: SmallMesh) -> None:
    options = {"mode": common_pb2.CACHE_MODE_SEMANTIC, "max_error_rate": 0.01}
    first = await events_of(mesh, sampling={"temperature": 0}, cache=options)
    second = await events_of(mesh, sampling={"temperature": 0}, cache=options)
    assert second[0].accepted.cache_status == common_pb2.CACHE_STATUS_HIT
    assert text_of(second) == text_of(first)


async def test_generate_once_is_the_same_answer_in_one_message(mesh: SmallMesh) -> None:
    request = pb.GenerateRequest(prompt={"text": "Hello there"}, sampling={"n": 2})
    reply = await mesh.stub.GenerateOnce(request, timeout=10)
    assert [answer.index for answer in reply.answers] == [0, 1]
    assert "Hello there" in reply.text and reply.text == reply.answers[0].text
    # Each answer's end-of-text token is generated and paid for, but it is part of no text.
    tokens = sum(answer.token_count for answer in reply.answers)
    assert tokens == reply.finished.usage.completion_tokens - len(reply.answers)
    assert reply.accepted.decision_id


async def test_list_models_and_count_tokens(mesh: SmallMesh) -> None:
    models = (await mesh.stub.ListModels(pb.ListModelsRequest(), timeout=5)).models
    assert [(m.name, m.tier, m.instance_count, m.ready_count) for m in models] == [("tiny", "standard", 1, 1)]
    assert models[0].context_tokens > 0 and models[0].output_price_micro_usd > 0
    counted = await mesh.stub.CountTokens(pb.CountTokensRequest(prompt={"text": "Hello there"}), timeout=5)
    answered = (await events_of(mesh))[-1].finished
    assert counted.prompt_tokens == answered.usage.prompt_tokens and counted.model == "tiny"


async def test_cancel_by_decision_id_ends_the_stream_as_cancelled(slow_mesh: SmallMesh) -> None:
    stream = slow_mesh.stub.Generate(
        pb.GenerateRequest(prompt={"text": "a b c"}, stopping={"max_tokens": 500, "ignore_eos": True}), timeout=10
    )
    events = []
    async for event in stream:
        events.append(event)
        if len(events) == 3:
            request = pb.CancelRequest(decision_id=events[0].accepted.decision_id)
            assert (await slow_mesh.stub.Cancel(request, timeout=5)).cancelled
    finished = events[-1].finished
    assert finished.finish_reason == common_pb2.FINISH_REASON_CANCELLED
    assert 0 < finished.usage.completion_tokens < 500
    assert not (await slow_mesh.stub.Cancel(request, timeout=5)).cancelled


async def test_a_deadline_ends_a_stream_on_time(slow_mesh: SmallMesh) -> None:
    request = pb.GenerateRequest(prompt={"text": "a"}, stopping={"max_tokens": 500, "ignore_eos": True})
    began_at = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        async for _ in slow_mesh.stub.Generate(request, timeout=0.3):
            pass
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began_at < 1.0


INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"prompt": {"text": ""}}, INVALID, "prompt.text"),
        ({"prompt": {}}, INVALID, "prompt"),
        ({"prompt": {"text": "word " * 19_000}}, INVALID, "prompt"),
        ({"prompt": {"text": "x" * 200_000}}, INVALID, "prompt.text"),
        ({"model": "nobody"}, grpc.StatusCode.NOT_FOUND, "nobody"),
        ({"tier": "nowhere"}, grpc.StatusCode.NOT_FOUND, "nowhere"),
        ({"sampling": {"temperature": -1}}, INVALID, "sampling.temperature"),
        ({"sampling": {"temperature": float("nan")}}, INVALID, "sampling.temperature"),
        ({"sampling": {"top_p": float("nan")}}, INVALID, "sampling.top_p"),
        ({"stopping": {"max_tokens": 0}}, INVALID, "stopping.max_tokens"),
        ({"stopping": {"max_tokens": 2_000_000_000}}, INVALID, "stopping.max_tokens"),
        ({"stopping": {"max_tokens": 100_000}}, INVALID, "stopping.max_tokens"),
        ({"constraint": {"regex": "a"}}, grpc.StatusCode.UNIMPLEMENTED, "constraint"),
        ({"prompt": {"token_ids": {"ids": [10**9]}}}, INVALID, "prompt.token_ids.ids"),
    ],
)
async def test_bad_input_gets_its_status_quickly_and_the_router_lives_on(
    mesh: SmallMesh, fields: dict[str, Any], code: grpc.StatusCode, named: str
) -> None:
    await events_of(mesh)
    began_at = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await events_of(mesh, **fields)
    took_s = time.monotonic() - began_at
    assert refused.value.code() is code
    assert named in refused.value.details()
    assert "Traceback" not in refused.value.details()
    # Four services share this process and its interpreter lock here; the bound itself is tested end to end.
    assert took_s < 10 * WITHIN_S
    assert text_of(await events_of(mesh))


async def test_a_refusal_carries_field_and_limit_as_details(mesh: SmallMesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await events_of(mesh, sampling={"temperature": 3})
    raw = next(value for key, value in refused.value.trailing_metadata() if key == "grpc-status-details-bin")
    status = status_pb2.Status.FromString(raw)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info) and status.details[1].Unpack(bad)
    assert info.reason == "INVALID_REQUEST" and info.metadata["limit"] == "[0, 2]"
    assert bad.field_violations[0].field == "sampling.temperature"


@pytest.mark.parametrize("method", ["Plan", "Explain", "Embed", "ReportOutcome"])
async def test_what_is_not_built_says_so(mesh: SmallMesh, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(mesh.stub, method)(getattr(pb, f"{method}Request")(), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert refused.value.details().startswith(method)


async def test_abandoned_streams_leave_nothing_behind(slow_mesh: SmallMesh) -> None:
    request = pb.GenerateRequest(prompt={"text": "a"}, stopping={"max_tokens": 500, "ignore_eos": True})
    streams = [slow_mesh.stub.Generate(request, timeout=30) for _ in range(20)]
    for stream in streams:
        assert (await stream.read()).WhichOneof("event") == "accepted"
    for stream in streams:
        stream.cancel()
    async with asyncio.timeout(5):
        await slow_mesh.engine_is_idle()
