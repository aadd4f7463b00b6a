"""Rules of the whole service with its real engine: one and two ranks, a tiny model, real gRPC.

The tests of a size share one service: each leaves it serving, with nothing running and nothing kept.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.common.v1 import common_pb2
from mesh.inference.v1 import inference_service_pb2 as pb
from mesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from meshkit.settings import RegistrySettings, ServerSettings
from meshkit.testing import running_server
from services.inference.app import InferenceService, build
from services.inference.settings import EngineSettings, InferenceSettings, ModelSettings
from tests.support.tiny_model import CONTEXT_TOKENS, make_tiny_model

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).resolve().parents[3]
START_TIMEOUT_S = 300.0
"""Compiling the all-reduce for the first time takes two minutes on two cores."""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=["one rank", "two ranks"])
def settings(request: pytest.FixtureRequest, model_dir: Path) -> InferenceSettings:
    return InferenceSettings(
        server=ServerSettings(port=0),
        registry=RegistrySettings(kind="none"),
        model=ModelSettings(source=str(model_dir), name="tiny", cache_dir=ROOT / ".cache" / "models"),
        engine=EngineSettings(
            kv_tokens=2048, threads_per_rank=1, tensor_parallel_size=1 if request.param == "one rank" else 2
        ),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(settings: InferenceSettings) -> AsyncIterator[grpc.aio.Channel]:
    async with asyncio.timeout(START_TIMEOUT_S):
        serving = running_server(settings, build, InferenceService)
        async with serving as address, grpc.aio.insecure_channel(address) as channel:
            yield channel


async def generation(stub: Any) -> int:
    """Which life of its engine the service is in."""
    return int((await stub.GetLoad(pb.GetLoadRequest())).load.engine_generation)


def ask(text: str = "hello", *, max_tokens: int = 16, **fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        prompt=common_pb2.Prompt(text=text),
        sampling=common_pb2.SamplingParams(temperature=0, **fields),
        stopping=common_pb2.StoppingParams(max_tokens=max_tokens, ignore_eos=True),
    )


async def answer(stub: Any, request: pb.GenerateRequest) -> tuple[str, pb.Finished]:
    responses = [response async for response in stub.Generate(request)]
    return "".join(response.delta.text for response in responses), responses[-1].finished


async def test_shared_prefixes_are_found_reported_and_flushed(channel: grpc.aio.Channel) -> None:
    stub: Any = InferenceServiceStub(channel)
    await stub.FlushCache(pb.FlushCacheRequest())
    following = stub.SubscribeKvEvents(pb.SubscribeKvEventsRequest())
    assert (await following.read()).HasField("snapshot")
    text = "Count from one to ten: one two three four five six seven eight nine ten. " * 3

    first, first_end = await answer(stub, ask(text))
    stored = await following.read()
    second, second_end = await answer(stub, ask(text))

    assert first == second
    assert first_end.usage.cached_prompt_tokens == 0
    assert second_end.usage.cached_prompt_tokens >= first_end.usage.prompt_tokens - 16
    assert stored.stored.block_tokens == 16 and stored.stored.block_hashes
    assert (await stub.FlushCache(pb.FlushCacheRequest())).block_count >= len(stored.stored.block_hashes)
    third, third_end = await answer(stub, ask(text))
    assert (third, third_end.usage.cached_prompt_tokens) == (first, 0)
    following.cancel()


async def test_kept_prefix_counts_as_used_until_it_is_let_go(channel: grpc.aio.Channel) -> None:
    stub: Any = InferenceServiceStub(channel)
    request = ask("Count from one to ten: one two three four five six seven eight nine ten. ", max_tokens=1)
    pinning = pb.PinPrefixRequest(prompt=request.prompt)
    kept = (await stub.PinPrefix(pinning)).prefix_tokens
    _, finished = await answer(stub, request)
    assert kept == finished.usage.prompt_tokens // 16 * 16 > 0
    for unpin, used in ((False, kept), (True, 0)):
        await stub.PinPrefix(pb.PinPrefixRequest(prompt=request.prompt, unpin=unpin))
        async for response in stub.WatchLoad(pb.WatchLoadRequest()):
            if response.load.kv_used_tokens == used:
                break
    too_long = pb.PinPrefixRequest(prompt=common_pb2.Prompt(token_ids=common_pb2.TokenIds(ids=[9] * 511)))
    assert (await stub.PinPrefix(too_long)).prefix_tokens == 496
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.PinPrefix(pb.PinPrefixRequest(prompt=common_pb2.Prompt(token_ids={"ids": [10] * 511})))
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await stub.PinPrefix(pb.PinPrefixRequest(prompt=too_long.prompt, unpin=True))


async def test_service_serves_several_streams_and_frees_all(channel: grpc.aio.Channel) -> None:
    stub: Any = InferenceServiceStub(channel)
    info = await stub.GetModelInfo(pb.GetModelInfoRequest())
    assert (info.model, info.context_tokens, info.architecture) == ("tiny", CONTEXT_TOKENS, "Qwen2ForCausalLM")
    assert info.revision and info.template_digest
    assert info.kv_total_tokens == (await stub.GetLoad(pb.GetLoadRequest())).load.kv_total_tokens == 2048

    alone, finished = await answer(stub, ask())
    assert alone and finished.finish_reason == common_pb2.FINISH_REASON_LENGTH
    assert finished.usage.completion_tokens == 16 and finished.usage.prompt_tokens > 0
    assert all(
        getattr(finished.timings, name).ToNanoseconds() > 0
        for name in ("engine_queue", "prefill", "first_token", "decode", "total")
    )

    together = await asyncio.gather(*(answer(stub, ask()) for _ in range(6)))
    assert {text for text, _ in together} == {alone}

    cut, finished = await answer(stub, pb.GenerateRequest.FromString(_with_stop(ask(), alone[3:5])))
    assert finished.stop_matched == alone[3:5] and alone.startswith(cut)

    calls = [stub.Generate(ask(max_tokens=400)) for _ in range(20)]
    for call in calls:
        await call.read()
        call.cancel()
    async for response in stub.WatchLoad(pb.WatchLoadRequest()):
        load = response.load
        if not (load.running_count or load.waiting_count or load.kv_used_tokens):
            break


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        ({"token_ids": {"ids": [9, 100_000]}}, "prompt.token_ids.ids[1]"),
        ({"token_ids": {"ids": [-1]}}, "prompt.token_ids.ids[0]"),
        ({"token_ids": {"ids": [9] * CONTEXT_TOKENS}}, "prompt"),
        ({"text": "count " * 3000}, "prompt"),
    ],
    ids=["over the vocabulary", "negative", "as long as the context", "far over the context"],
)
async def test_prompt_that_no_model_could_read_is_refused_and_the_engine_lives(
    channel: grpc.aio.Channel, prompt: dict[str, Any], field: str
) -> None:
    stub: Any = InferenceServiceStub(channel)
    before = await generation(stub)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await answer(stub, pb.GenerateRequest(prompt=common_pb2.Prompt(**prompt)))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.value.details() or "").startswith(f"{field}: ")
    assert (await answer(stub, ask()))[0]
    assert await generation(stub) == before


async def test_killed_rank_ends_requests_as_unavailable_and_the_service_comes_back(channel: grpc.aio.Channel) -> None:
    stub: Any = InferenceServiceStub(channel)
    before = await generation(stub)
    responses = aiter(stub.Generate(ask(max_tokens=400)))
    await anext(responses)
    first = await anext(responses)
    sent_count = first.delta.token_count
    _last_rank().kill()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        async with asyncio.timeout(5):
            async for response in responses:
                sent_count += response.delta.token_count
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert sent_count and f"; {sent_count} tokens had been sent" in (failure.value.details() or "")
    async with asyncio.timeout(60):
        await _serving(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        await _serving(channel, health_pb2.HealthCheckResponse.SERVING)
    assert (await answer(stub, ask()))[0]
    assert await generation(stub) == before + 1


async def _serving(channel: grpc.aio.Channel, wanted: int) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    async for response in health.Watch(health_pb2.HealthCheckRequest(service=InferenceService.grpc_name)):
        if response.status == wanted:
            return


def _with_stop(request: pb.GenerateRequest, stop: str) -> bytes:
    request.stopping.stop.append(stop)
    return request.SerializeToString()


def _last_rank() -> psutil.Process:
    """Of the engine that this test process started."""
    found = (one for one in psutil.Process().children(recursive=True) if "--rank" in one.cmdline())
    return max(found, key=lambda one: int(one.cmdline()[one.cmdline().index("--rank") + 1]))
