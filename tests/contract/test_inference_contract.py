"""Rules of mesh.inference.v1 as callers see it, over real gRPC with the echo engine."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.common.v1 import common_pb2
from mesh.inference.v1 import inference_service_pb2 as pb
from mesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from meshkit.server import Server
from meshkit.settings import RegistrySettings, ServerSettings
from meshkit.testing import running_server, test_chassis
from services.inference.app import InferenceService, build
from services.inference.settings import EngineSettings, InferenceSettings

SERVICE = InferenceService.grpc_name
CONTEXT_TOKENS = 8192


def settings(tokens_per_s: float = 0.0) -> InferenceSettings:
    return InferenceSettings(
        server=ServerSettings(port=0),
        registry=RegistrySettings(kind="none"),
        engine=EngineSettings(kind="echo", echo_tokens_per_s=tokens_per_s),
    )


@pytest.fixture
async def bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(30):
        yield


@pytest.fixture
async def channel(bounded: None, request: pytest.FixtureRequest) -> AsyncIterator[grpc.aio.Channel]:
    serving = running_server(settings(getattr(request, "param", 0.0)), build, InferenceService)
    async with serving as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return InferenceServiceStub(channel)


paced = pytest.mark.parametrize("channel", [500.0], indirect=True)


def ask(text: str = "hello", **fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(prompt=common_pb2.Prompt(text=text), **fields)


def endless(request_id: str = "") -> pb.GenerateRequest:
    stopping = common_pb2.StoppingParams(max_tokens=8000, ignore_eos=True)
    return ask(request_id=request_id, stopping=stopping)


async def collect(stub: Any, request: pb.GenerateRequest) -> list[pb.GenerateResponse]:
    return [response async for response in stub.Generate(request)]


async def begun(call: Any) -> AsyncIterator[pb.GenerateResponse]:
    """The rest of a stream behind its first event."""
    responses = aiter(call)
    await anext(responses)
    return responses


async def running_count(stub: Any) -> int:
    return int((await stub.GetLoad(pb.GetLoadRequest())).load.running_count)


async def until_idle(stub: Any) -> None:
    async for response in stub.WatchLoad(pb.WatchLoadRequest()):
        if not response.load.running_count:
            return


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    raw = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    found = {}
    for packed in status_pb2.Status.FromString(raw).details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            message = kind()
            if packed.Unpack(message):
                found[kind.__name__] = message
    return found


async def test_prompt_alone_gives_started_deltas_and_finished(stub: Any) -> None:
    started, *deltas, finished = await collect(stub, ask("hello wörld 👍"))
    assert (started.started.prompt_tokens, started.started.model) == (17, "echo")
    assert started.started.request_id
    assert "".join(delta.delta.text for delta in deltas) == "hello wörld 👍"
    assert finished.finished.finish_reason == common_pb2.FINISH_REASON_STOP
    assert finished.finished.usage.prompt_tokens == 17
    assert finished.finished.usage.completion_tokens == 18
    timings = finished.finished.timings
    assert timings.first_token.ToNanoseconds() > 0
    assert timings.total.ToNanoseconds() >= timings.first_token.ToNanoseconds()


async def test_deltas_carry_ids_and_logprobs_when_asked_for(stub: Any) -> None:
    output = common_pb2.OutputParams(include_token_ids=True, logprobs=1)
    _, *deltas, _ = await collect(stub, ask("ab", output=output))
    assert sum(len(delta.delta.token_ids) for delta in deltas) == 2
    assert [score.drawn.text for delta in deltas for score in delta.delta.logprobs] == ["a", "b"]


async def test_messages_are_joined_where_the_model_has_no_template(stub: Any) -> None:
    messages = common_pb2.ChatMessages(messages=[common_pb2.Message(role="user", content="hi")])
    tokenized = await stub.Tokenize(pb.TokenizeRequest(prompt=common_pb2.Prompt(messages=messages)))
    text = (await stub.Detokenize(pb.DetokenizeRequest(ids=tokenized.ids))).text
    assert text == "user: hi\nassistant:"


async def test_tokens_are_counted_without_being_listed(stub: Any) -> None:
    request = pb.TokenizeRequest(prompt=common_pb2.Prompt(text="hello"), count_only=True)
    response = await stub.Tokenize(request)
    assert (list(response.ids), response.token_count) == ([], 5)


BAD_REQUESTS = [
    (ask(""), "prompt.text", "at least 1 character"),
    (pb.GenerateRequest(), "prompt", "one of messages, text, token_ids"),
    (ask("x" * 9000), "prompt", f"context of {CONTEXT_TOKENS} tokens, one of them for the answer"),
    (ask("x" * 3_000_000), "prompt", "131072 characters for a context of 8192 tokens"),
    (ask(sampling=common_pb2.SamplingParams(temperature=float("nan"))), "sampling.temperature", "[0, 2]"),
    (ask(sampling=common_pb2.SamplingParams(top_p=-1)), "sampling.top_p", "(0, 1]"),
    (ask(ttft_slo=Duration()), "ttft_slo", "(0, 86400]"),
    (ask(ttft_slo=Duration(seconds=-1)), "ttft_slo", "(0, 86400]"),
    (ask(stopping=common_pb2.StoppingParams(max_tokens=0)), "stopping.max_tokens", "[1, 8192]"),
    (ask(stopping=common_pb2.StoppingParams(max_tokens=2**31 - 1)), "stopping.max_tokens", "[1, 8192]"),
]


@pytest.mark.parametrize(("request_", "field", "limit"), BAD_REQUESTS, ids=[row[1] for row in BAD_REQUESTS])
async def test_bad_request_is_invalid_argument_with_field_and_limit(
    stub: Any, request_: pb.GenerateRequest, field: str, limit: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await collect(stub, request_)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = details(refusal.value)
    assert found["ErrorInfo"].metadata["limit"] == limit
    assert found["BadRequest"].field_violations[0].field == field
    assert "Traceback" not in (refusal.value.details() or "")
    assert len(await collect(stub, ask())) >= 3


def unbuilt_requests() -> list[tuple[str, Any, str]]:
    return [
        ("Score", pb.ScoreRequest(), "does not score"),
        ("Embed", pb.EmbedRequest(), "embedding"),
        ("LoadAdapter", pb.LoadAdapterRequest(), "LoRA"),
        ("UnloadAdapter", pb.UnloadAdapterRequest(), "LoRA"),
        ("ListAdapters", pb.ListAdaptersRequest(), "LoRA"),
        ("StartProfile", pb.StartProfileRequest(), "profiler"),
        ("StopProfile", pb.StopProfileRequest(), "profiler"),
        ("Generate", ask(adapter="a"), "adapter"),
        ("Generate", ask(constraint=common_pb2.Constraint(regex="a+")), "constraint.regex"),
    ]


@pytest.mark.parametrize(("method", "request_", "reason"), unbuilt_requests())
async def test_what_is_not_built_is_unimplemented_with_the_reason(
    stub: Any, method: str, request_: Any, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        call = getattr(stub, method)(request_)
        await (call.read() if method == "Generate" else call)
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert reason in (refusal.value.details() or "")


async def cached_tokens(stub: Any, text: str, tenant: str) -> int:
    """What a tenant is told to have found of its prompt."""
    metadata = (("x-mesh-tenant", tenant),)
    responses = [response async for response in stub.Generate(ask(text), metadata=metadata)]
    return int(responses[-1].finished.usage.cached_prompt_tokens)


async def test_prompt_tokens_found_in_the_cache_are_reported_and_no_tenant_finds_those_of_another(stub: Any) -> None:
    text = "one two three four five six seven eight"
    found = [await cached_tokens(stub, text, tenant) for tenant in ("ada", "ada", "bob", "bob")]
    assert found == [0, 32, 0, 32]


async def test_flushed_cache_is_empty_and_a_key_flushes_once(stub: Any) -> None:
    text, request = "x" * 40, pb.FlushCacheRequest(idempotency_key="k")
    await cached_tokens(stub, text, "ada")
    assert (await stub.FlushCache(request)).block_count == 2
    assert await cached_tokens(stub, text, "ada") == 0
    assert (await stub.FlushCache(request)).block_count == 2
    assert await cached_tokens(stub, text, "ada") == 32
    assert (await stub.FlushCache(pb.FlushCacheRequest())).block_count == 2


async def pin(stub: Any, text: str, tenant: str, *, unpin: bool = False) -> int:
    request = pb.PinPrefixRequest(prompt=common_pb2.Prompt(text=text), unpin=unpin)
    return int((await stub.PinPrefix(request, metadata=(("x-mesh-tenant", tenant),))).prefix_tokens)


async def test_kept_prefix_outlives_what_fills_the_cache_until_it_is_let_go(stub: Any) -> None:
    text = "x" * 40
    assert await pin(stub, text, "ada") == await pin(stub, text, "ada") == 32
    for round_, found in ((1, 32), (2, 0)):
        await cached_tokens(stub, text, "ada")
        for number in range(10):
            await cached_tokens(stub, f"{round_} {number} " + "y" * 8000, "eve")
        assert await cached_tokens(stub, text, "ada") == found
        await pin(stub, text, "ada", unpin=True)


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("x" * 15, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ("", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ("z" * 8000, grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"),
    ],
    ids=["less than a block", "nothing", "more than a tenant may"],
)
async def test_prefix_that_can_not_be_kept_is_refused_with_the_reason(
    stub: Any, text: str, code: grpc.StatusCode, reason: str
) -> None:
    for filler in ("a", "b"):
        await pin(stub, filler * 8000, "ada")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await pin(stub, text, "ada")
    assert refusal.value.code() is code
    assert details(refusal.value)["ErrorInfo"].reason == reason


async def test_followers_of_the_cache_get_a_snapshot_then_every_change_and_can_resume(stub: Any) -> None:
    following = stub.SubscribeKvEvents(pb.SubscribeKvEventsRequest())
    snapshot = await following.read()
    assert list(snapshot.snapshot.block_hashes) == [] and snapshot.HasField("snapshot")
    await cached_tokens(stub, "x" * 40, "ada")
    stored = await following.read()
    assert stored.sequence == snapshot.sequence + 1
    assert (len(stored.stored.block_hashes), stored.stored.block_tokens) == (2, 16)
    await stub.FlushCache(pb.FlushCacheRequest())
    evicted = await following.read()
    assert sorted(evicted.evicted.block_hashes) == sorted(stored.stored.block_hashes)
    following.cancel()

    resumed = stub.SubscribeKvEvents(pb.SubscribeKvEventsRequest(after_sequence=stored.sequence))
    assert await resumed.read() == evicted
    resumed.cancel()
    unknown = stub.SubscribeKvEvents(pb.SubscribeKvEventsRequest(after_sequence=3))
    assert (await unknown.read()).HasField("snapshot")
    unknown.cancel()


async def test_a_prompts_blocks_are_named_as_the_cache_names_them_where_that_is_asked_for(stub: Any) -> None:
    following = stub.SubscribeKvEvents(pb.SubscribeKvEventsRequest())
    await following.read()
    plain = (await collect(stub, ask("x" * 40)))[0].started
    stored = (await following.read()).stored
    assert not plain.block_hashes and not plain.block_tokens
    named = (await collect(stub, ask("x" * 40, wants_block_hashes=True)))[0].started
    assert list(named.block_hashes) == list(stored.block_hashes) and named.block_tokens == 16
    assert named.prompt_tokens // named.block_tokens == len(named.block_hashes)
    following.cancel()


async def test_unknown_model_is_not_found(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await collect(stub, ask(model="other"))
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


@paced
async def test_abort_ends_a_request_once(stub: Any) -> None:
    rest = await begun(stub.Generate(endless("mine")))
    assert (await stub.Abort(pb.AbortRequest(request_id="mine"))).aborted
    responses = [response async for response in rest]
    assert responses[-1].finished.finish_reason == common_pb2.FINISH_REASON_CANCELLED
    assert not (await stub.Abort(pb.AbortRequest(request_id="mine"))).aborted


@paced
async def test_dropped_streams_leave_nothing_behind(stub: Any) -> None:
    calls = [stub.Generate(endless()) for _ in range(50)]
    for call in calls:
        await call.read()
    assert await running_count(stub) == 50
    for call in calls:
        call.cancel()
    await until_idle(stub)


@paced
async def test_passed_deadline_ends_the_sequence(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        async for _ in stub.Generate(endless(), timeout=0.2):
            pass
    assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until_idle(stub)


@paced
async def test_load_is_told_when_it_changes(stub: Any) -> None:
    watching = stub.WatchLoad(pb.WatchLoadRequest())
    assert (await watching.read()).load.running_count == 0
    call = stub.Generate(endless())
    await call.read()
    assert (await watching.read()).load.running_count == 1
    call.cancel()
    watching.cancel()


@paced
async def test_drain_refuses_new_requests_and_aborts_after_its_timeout(stub: Any, channel: grpc.aio.Channel) -> None:
    rest = await begun(stub.Generate(endless()))
    request = pb.DrainRequest()
    request.timeout.FromMilliseconds(50)
    assert (await stub.Drain(request)).aborted_count == 1
    for refused in (rest, stub.Generate(ask())):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            async for _ in refused:
                pass
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
        assert details(refusal.value)["ErrorInfo"].reason == "NOT_READY"
    health = health_pb2_grpc.HealthStub(channel)
    checked = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert checked.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await stub.GetLoad(pb.GetLoadRequest())).load.is_draining


async def test_server_with_a_load_watch_open_drains_promptly(bounded: None) -> None:
    service_settings = settings(500.0)
    chassis = test_chassis(service_settings, InferenceService)
    server = Server(service_settings, chassis, build(service_settings, chassis))
    try:
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub: Any = InferenceServiceStub(channel)
            request = pb.WatchLoadRequest()
            request.min_interval.FromSeconds(3600)
            watches = [await begun(stub.WatchLoad(watch)) for watch in (pb.WatchLoadRequest(), request)]
            following = await begun(stub.SubscribeKvEvents(pb.SubscribeKvEventsRequest()))
            rest = await begun(stub.Generate(ask(stopping=common_pb2.StoppingParams(max_tokens=50, ignore_eos=True))))
            async with asyncio.timeout(service_settings.server.drain_wait_s + 2):
                await server.drain()
            assert [response async for response in rest][-1].HasField("finished")
            for watch in watches:
                assert [response.load.is_draining async for response in watch][-1]
            assert [response async for response in following] == []
    finally:
        await server.close()


async def test_too_many_ids_to_show_are_refused_with_field_and_limit(stub: Any) -> None:
    assert len((await stub.Detokenize(pb.DetokenizeRequest(ids=[66] * CONTEXT_TOKENS))).text) == CONTEXT_TOKENS
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.Detokenize(pb.DetokenizeRequest(ids=[66] * (CONTEXT_TOKENS + 1)))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = details(refusal.value)
    assert found["BadRequest"].field_violations[0].field == "ids"
    assert found["ErrorInfo"].metadata["limit"] == f"at most {CONTEXT_TOKENS}"


async def test_service_is_ready_only_between_start_and_drain() -> None:
    service_settings = settings()
    chassis = test_chassis(service_settings, InferenceService)
    service = build(service_settings, chassis)
    assert not service.is_ready
    await service.start()
    assert service.is_ready
    await service.drain()
    assert not service.is_ready
    await service.close()


async def test_model_says_what_it_is(stub: Any) -> None:
    info = await stub.GetModelInfo(pb.GetModelInfoRequest())
    assert (info.model, info.context_tokens, info.vocabulary_size) == ("echo", CONTEXT_TOKENS, 257)
    assert list(info.eos_token_ids) == [256]


async def test_logs_hold_no_prompt_and_no_answer(stub: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await collect(stub, ask("a very secret sentence"))
    assert "generation.ended" in caplog.text
    assert not any("secret" in str(vars(record)) for record in caplog.records)
