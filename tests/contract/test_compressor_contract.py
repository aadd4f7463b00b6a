"""The compressor over real gRPC: replies, token counts by an instance, and refusals that name the field."""

import asyncio
import contextlib
import json
from dataclasses import replace
from functools import partial

import grpc
import pytest
import tiktoken

from mesh.common.v1 import common_pb2
from mesh.compressor.v1 import compressor_service_pb2 as pb
from mesh.compressor.v1.compressor_service_pb2_grpc import CompressorServiceStub
from mesh.inference.v1 import inference_service_pb2 as inference_pb
from mesh.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)
from meshkit.settings import RegistrySettings, ServerSettings
from meshkit.testing.registry import FakeRegistry
from meshkit.testing.running import running_server
from services.compressor.app import CompressorService, build
from services.compressor.settings import CompressorSettings, CountingSettings
from tests.support.selectors import SentenceOverlap
from tests.support.tiktoken_files import ENCODING, MODEL, lay_out

SETTINGS = CompressorSettings(server=ServerSettings(port=0), registry=RegistrySettings(kind="none"))
STAGES = [
    "json_minify",
    "xml_compact",
    "html_compact",
    "xml_outline",
    "whitespace",
    "record_table",
    "log_template",
    "log_rows",
]
RECORDS = json.dumps([{"id": i, "name": f"name {i}"} for i in range(20)], indent=2)


class WordCounter(InferenceServiceServicer):
    """An instance that counts 10 tokens of template and one for each character."""

    async def Tokenize(self, request, context):
        texts = [message.content for message in request.prompt.messages.messages] or [request.prompt.text]
        assert request.count_only
        return inference_pb.TokenizeResponse(token_count=10 + sum(len(text) for text in texts))


class FrozenCounter(InferenceServiceServicer):
    """An instance that never answers."""

    async def Tokenize(self, request, context):
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def counting_instance(servicer_type):
    server = grpc.aio.server()
    add_InferenceServiceServicer_to_server(servicer_type(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def compressor_stub(registry=None, *, selector=None, settings=SETTINGS):
    made = partial(build, selector=selector) if selector else build
    async with (
        running_server(settings, made, CompressorService, registry=registry) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield CompressorServiceStub(channel)


def a_request(text=RECORDS, **changes) -> pb.CompressRequest:
    return pb.CompressRequest(prompt=common_pb2.Prompt(text=text), **changes)


@pytest.mark.parametrize(("floor", "stage"), [({}, "log_rows"), ({"min_quality": 0.0}, "log_template")])
async def test_a_format_that_readers_answer_worse_from_is_for_callers_whose_floor_allows_it(floor, stage):
    log = "".join(f"2024-05-01 10:00:{i:02d} INFO request {100 + i} took {i} ms\n" for i in range(40))
    async with compressor_stub() as stub:
        reply = await stub.Compress(a_request(log, **floor))
    assert [report.stage for report in reply.stages if report.segment_count] == [stage]
    assert reply.quality_interval.low <= reply.quality_score <= reply.quality_interval.high < 1


async def test_compress_counts_in_the_vocabulary_of_the_models_instance():
    registry = FakeRegistry()
    async with counting_instance(WordCounter) as address, compressor_stub(registry) as stub:
        registry.announce("mesh-inference", "127.0.0.1:1", {"model": "other"})
        registry.announce("mesh-inference", address, {"model": "m"})
        reply = await stub.Compress(a_request(model="m"))
        assert not reply.counts_are_estimates
        assert reply.original_tokens == 10 + len(RECORDS)
        assert reply.compressed_tokens == 10 + len(reply.compressed.text) < reply.original_tokens
        assert reply.token_reduction == pytest.approx(1 - reply.compressed_tokens / reply.original_tokens)
        assert reply.cache_eligible
        assert reply.version
        assert [report.stage for report in reply.stages] == [name for name in STAGES if name != "log_template"]
        assert {report.loss_class for report in reply.stages} == {pb.LOSS_CLASS_LOSSLESS}


async def test_without_an_instance_of_the_model_counts_are_estimates():
    registry = FakeRegistry()
    registry.announce("mesh-inference", "127.0.0.1:1", {"model": "other"})
    async with compressor_stub(registry) as stub:
        reply = await stub.Compress(a_request(model="m"))
        assert reply.counts_are_estimates
        assert 0 < reply.compressed_tokens < reply.original_tokens


async def test_a_hosted_models_tokens_are_counted_by_tiktoken_from_the_deployments_files(tmp_path):
    settings = replace(SETTINGS, counting=CountingSettings(tiktoken_dir=str(lay_out(tmp_path))))
    async with compressor_stub(settings=settings) as stub:
        reply = await stub.Compress(a_request(model=MODEL))
        assert not reply.counts_are_estimates
        encoding = tiktoken.get_encoding(ENCODING)
        assert reply.original_tokens == 7 + len(encoding.encode_ordinary(RECORDS))
        assert reply.compressed_tokens == 7 + len(encoding.encode_ordinary(reply.compressed.text))
        assert (await stub.Compress(a_request(model="o3"))).counts_are_estimates


async def test_an_instance_that_is_gone_leaves_estimates():
    registry = FakeRegistry()
    registry.announce("mesh-inference", "127.0.0.1:1", {"model": "m"})
    async with compressor_stub(registry) as stub:
        assert (await stub.Compress(a_request(model="m"))).counts_are_estimates


async def test_an_instance_that_hangs_costs_half_the_callers_time_once():
    registry = FakeRegistry()
    async with counting_instance(FrozenCounter) as address, compressor_stub(registry) as stub:
        registry.announce("mesh-inference", address, {"model": "m"})
        assert (await stub.Compress(a_request(model="m"), timeout=1.0)).counts_are_estimates
        assert (await stub.Compress(a_request(model="m"), timeout=0.4)).counts_are_estimates


async def test_everything_but_the_texts_of_a_conversation_stays():
    prompt = common_pb2.Prompt()
    messages = prompt.messages.messages
    messages.add(role="assistant", content=RECORDS).tool_calls.add(id="1", name="f", arguments='{ "a": 1 }')
    messages.add(role="tool", content=RECORDS, tool_call_id="1", name="f")
    prompt.tools.add(name="f", description="d  \n\n\n", parameters_json='{ "type": "object" }')
    async with compressor_stub() as stub:
        compressed = (await stub.Compress(pb.CompressRequest(prompt=prompt))).compressed
        assert compressed.messages.messages[1].content != RECORDS
        compressed.messages.messages[1].content = RECORDS
        assert compressed == prompt


async def test_preview_and_batch_take_the_same_path():
    async with compressor_stub() as stub:
        plain = await stub.Compress(a_request())
        preview = (await stub.Preview(pb.PreviewRequest(request=a_request()))).response
        batch = await stub.CompressBatch(pb.CompressBatchRequest(requests=[a_request(), a_request("hello")]))
        assert plain.compressed == preview.compressed == batch.responses[0].compressed
        assert batch.responses[1].compressed.text == "hello"


UNTOUCHED = {
    "compression is off": a_request(mode=common_pb2.COMPRESSION_MODE_OFF),
    "raw text is sent as it is": pb.CompressRequest(prompt=common_pb2.Prompt(text=RECORDS, raw=True)),
    "token ids are sent as they are": pb.CompressRequest(
        prompt=common_pb2.Prompt(token_ids=common_pb2.TokenIds(ids=[0, 1]))
    ),
    "no stage makes it shorter": a_request(frozen_prefix=100_000),
}


@pytest.mark.parametrize("reason", UNTOUCHED)
async def test_a_prompt_that_is_not_compressed_comes_back_with_the_reason(reason):
    async with compressor_stub() as stub:
        reply = await stub.Compress(UNTOUCHED[reason])
        assert reply.reason_original_kept == reason
        assert reply.compressed == UNTOUCHED[reason].prompt
        assert (reply.token_reduction, reply.quality_score, reply.cache_eligible) == (0, 1, True)
        assert reply.original_tokens == reply.compressed_tokens > 0


async def test_strategies_are_listed_in_the_order_in_which_they_run():
    async with compressor_stub() as stub:
        strategies = (await stub.ListStrategies(pb.ListStrategiesRequest())).strategies
        assert [strategy.name for strategy in strategies] == [*STAGES, "selection"]
        assert all(strategy.description for strategy in strategies)


BAD = [
    ("prompt.input", pb.CompressRequest()),
    ("prompt.text", a_request("")),
    ("prompt.messages", pb.CompressRequest(prompt=common_pb2.Prompt(messages=common_pb2.ChatMessages()))),
    ("target_ratio", a_request(target_ratio=0)),
    ("target_ratio", a_request(target_ratio=float("nan"))),
    ("min_quality", a_request(min_quality=1.5)),
    ("frozen_prefix", a_request(frozen_prefix=-1)),
    ("protect[0]", a_request(protect=[""])),
    ("protect", a_request(protect=["x"] * 257)),
    ("protect[1]", a_request(protect=["x", "x" * 5000])),
    ("mode", a_request(mode=99)),
    ("session_id", a_request(session_id="x" * 257)),
    ("prices", a_request(prices=pb.InputPrices(input_micro_usd=-1))),
]


@pytest.mark.parametrize(("field", "request_"), BAD)
async def test_a_bad_request_is_refused_with_the_field(field, request_):
    async with compressor_stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Compress(request_)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(raised.value.details()).startswith(f"{field}: ")
        assert (await stub.Compress(a_request())).compressed_tokens > 0


async def test_a_batch_is_refused_as_a_whole_with_the_place_of_the_fault():
    async with compressor_stub() as stub:
        for requests, field in [
            ([a_request(), a_request("")], "requests[1].prompt.text"),
            ([a_request()] * 65, "requests"),
        ]:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.CompressBatch(pb.CompressBatchRequest(requests=requests))
            assert str(raised.value.details()).startswith(f"{field}: ")


async def test_the_packaged_selector_keeps_what_answers():
    async with compressor_stub() as stub:
        reply = await stub.Compress(a_conversation())
        assert FACT.strip() in contents(reply)[0]
        assert reply.token_reduction >= 0.5
        listed = await stub.ListStrategies(pb.ListStrategiesRequest())
        assert ("selection", pb.LOSS_CLASS_SELECTIVE) in [(one.name, one.loss_class) for one in listed.strategies]


FACT = "The old lighthouse of Karsk was built in 1887 by Ivan Petrov. "
DOCUMENT = "The weather in the valley was mild and dull for weeks. " * 8 + FACT + "Boats came and went all day. " * 8
TENANT_A, TENANT_B = ((("x-mesh-tenant", tenant),) for tenant in ("a", "b"))


def a_conversation(*later: tuple[str, str], **changes) -> pb.CompressRequest:
    turns = [("tool", DOCUMENT), ("user", "Who built the lighthouse of Karsk?"), *later]
    messages = [common_pb2.Message(role=role, content=content) for role, content in turns]
    prompt = common_pb2.Prompt(messages=common_pb2.ChatMessages(messages=messages))
    mode = common_pb2.COMPRESSION_MODE_SELECTIVE
    return pb.CompressRequest(**{"prompt": prompt, "mode": mode, "target_ratio": 0.4, **changes})


def contents(reply: pb.CompressResponse) -> list[str]:
    return [message.content for message in reply.compressed.messages.messages]


async def refusal_of(call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), str(raised.value.details())


async def test_what_selection_left_out_is_expanded_for_its_own_tenant_only():
    async with compressor_stub(selector=SentenceOverlap()) as stub:
        reply = await stub.Compress(a_conversation(with_handles=True), metadata=TENANT_A)
        assert len(reply.handles) == 2
        for handle in reply.handles:
            assert f'expand("{handle}")' in contents(reply)[0]
            expanded = await stub.Expand(pb.ExpandRequest(handle=handle), metadata=TENANT_A)
            assert expanded.text in DOCUMENT
        foreign = await refusal_of(stub.Expand(pb.ExpandRequest(handle=reply.handles[0]), metadata=TENANT_B))
        unknown = await refusal_of(stub.Expand(pb.ExpandRequest(handle="x" * 16), metadata=TENANT_A))
        assert foreign == unknown
        assert foreign[0] is grpc.StatusCode.NOT_FOUND
        assert (await refusal_of(stub.Expand(pb.ExpandRequest())))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_run_of_turns_goes_out_as_one_marker_that_fetches_all_of_them():
    asked = "Who built the lighthouse of Karsk?"
    turns = [
        (("user", "assistant")[i % 2], f"The weather in valley {i} was dull for weeks, they said.") for i in range(8)
    ]
    turns = [("user", "Hello, what about lighthouses?"), ("assistant", FACT), *turns, ("user", asked)]
    messages = [common_pb2.Message(role=role, content=content) for role, content in turns]
    prompt = common_pb2.Prompt(messages=common_pb2.ChatMessages(messages=messages))
    async with compressor_stub(selector=SentenceOverlap()) as stub:
        reply = await stub.Compress(a_conversation(prompt=prompt, with_handles=True))
        assert contents(reply)[1:2] == [FACT]
        assert contents(reply)[-1] == asked
        assert len(contents(reply)) == 5 and all(contents(reply))
        expanded = await stub.Expand(pb.ExpandRequest(handle=contents(reply)[2].split('"')[1]))
        assert expanded.text.splitlines()[:2] == [f"{role}: {text}" for role, text in turns[2:4]]


async def test_without_handles_asked_for_none_are_given():
    async with compressor_stub(selector=SentenceOverlap()) as stub:
        reply = await stub.Compress(a_conversation())
        assert not reply.handles
        assert "expand(" not in contents(reply)[0]
        assert FACT in contents(reply)[0]
        assert reply.stages[-1].loss_class == pb.LOSS_CLASS_SELECTIVE
        assert "sentence_overlap" in reply.version


async def test_a_preview_keeps_neither_handles_nor_turns():
    async with compressor_stub(selector=SentenceOverlap()) as stub:
        request = a_conversation(with_handles=True, session_id="s")
        preview = (await stub.Preview(pb.PreviewRequest(request=request))).response
        refused = await refusal_of(stub.Expand(pb.ExpandRequest(handle=preview.handles[0])))
        assert refused[0] is grpc.StatusCode.NOT_FOUND
        reply = await stub.Compress(request)
        assert contents(reply) == contents(preview)
        assert not reply.cache_eligible


async def test_a_turn_extends_the_turn_before_and_only_then_is_the_prefix_eligible():
    later = (("assistant", "Ivan Petrov."), ("user", "And how was the weather in the valley?"))
    async with compressor_stub(selector=SentenceOverlap()) as stub:
        first = await stub.Compress(a_conversation(session_id="s"))
        second = await stub.Compress(a_conversation(*later, session_id="s"))
        foreign = await stub.Compress(a_conversation(*later, session_id="s"), metadata=TENANT_B)
        assert contents(second)[:2] == contents(first)
        assert [one.cache_eligible for one in (first, second, foreign)] == [False, True, False]
        off = await stub.Compress(a_conversation(*later, session_id="s", mode=common_pb2.COMPRESSION_MODE_OFF))
        assert not off.cache_eligible


async def test_prices_give_the_benefit_in_money():
    prices = pb.InputPrices(input_micro_usd=10_000_000, cached_input_micro_usd=1_000_000)
    async with compressor_stub(selector=SentenceOverlap()) as stub:
        reply = await stub.Compress(a_conversation(prices=prices))
        saved = reply.original_tokens - reply.compressed_tokens
        assert saved > 0
        assert 0 < reply.net_benefit_micro_usd <= saved * 10
        assert not (await stub.Compress(a_conversation())).HasField("net_benefit_micro_usd")


async def test_a_prompt_too_long_to_select_from_is_rewritten_without_loss():
    async with compressor_stub(selector=SentenceOverlap()) as stub:
        long = a_request(DOCUMENT * 4_000, mode=common_pb2.COMPRESSION_MODE_SELECTIVE)
        reply = await stub.Compress(long)
        assert reply.compressed == long.prompt
        assert {report.loss_class for report in reply.stages} == {pb.LOSS_CLASS_LOSSLESS}


def with_tools(**changes) -> pb.CompressRequest:
    request = a_conversation(**changes)
    for name, description in [
        ("find_builder", "Tells who built a lighthouse or another building."),
        ("send_mail", "Sends a letter to somebody far away."),
        ("play_song", "Plays music in the living room."),
    ]:
        request.prompt.tools.add(name=name, description=description, parameters_json='{ "type": "object" }')
    return request


async def test_tools_that_the_question_does_not_need_are_left_out_whole_and_the_rest_stay_byte_for_byte():
    async with compressor_stub() as stub:
        request = with_tools()
        reply = await stub.Compress(request)
        assert list(reply.compressed.tools) == [request.prompt.tools[0]]
        assert len(reply.compressed.messages.messages) == len(request.prompt.messages.messages)


async def test_a_tool_that_the_conversation_has_called_stays():
    request = with_tools()
    messages = request.prompt.messages.messages
    messages[0].name = "send_mail"
    called = common_pb2.Message(role="assistant", tool_calls=[common_pb2.ToolCall(id="1", name="play_song")])
    messages.insert(0, called)
    async with compressor_stub() as stub:
        assert (await stub.Compress(request)).compressed.tools == request.prompt.tools


async def test_tools_stay_in_a_conversation_and_before_a_frozen_prefix():
    async with compressor_stub() as stub:
        for changes in ({"session_id": "s"}, {"frozen_prefix": 1}, {"mode": common_pb2.COMPRESSION_MODE_LOSSLESS}):
            request = with_tools(**changes)
            assert (await stub.Compress(request)).compressed.tools == request.prompt.tools
