"""The cache over real gRPC: what callers get for good and for bad requests."""

import contextlib
import dataclasses

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from mesh.common.v1 import common_pb2
from meshkit.settings import RegistrySettings, ServerSettings
from meshkit.testing.running import running_server
from services.cache.app import CacheService, build
from services.cache.settings import CacheSettings

SETTINGS = dataclasses.replace(CacheSettings(), server=ServerSettings(port=0), registry=RegistrySettings(kind="none"))


@contextlib.asynccontextmanager
async def cache_stub(settings=SETTINGS):
    async with running_server(settings, build, CacheService) as address, grpc.aio.insecure_channel(address) as channel:
        yield CacheServiceStub(channel)


def a_lookup(text="hi", **changes) -> pb.LookupRequest:
    key = pb.CacheKey(prompt=common_pb2.Prompt(text=text), model="m", revision="r")
    key.sampling.temperature = 0
    return pb.LookupRequest(key=key, **changes)


def an_answer(finish=common_pb2.FINISH_REASON_STOP) -> pb.StoredAnswer:
    answer = pb.StoredAnswer(finish_reason=finish, model="m", revision="r", cost_micro_usd=7)
    for number, text in enumerate(["Hel", "lo"]):
        answer.events.add(offset=Duration(nanos=number * 10**6), delta=common_pb2.Delta(text=text, token_ids=[number]))
    answer.usage.completion_tokens = 2
    return answer


def as_tenant(name: str) -> tuple[tuple[str, str], ...]:
    return (("x-mesh-tenant", name),)


async def test_a_committed_answer_comes_back_event_by_event():
    async with cache_stub() as stub:
        missed = await stub.Lookup(a_lookup(single_flight=True))
        assert missed.miss.reason == "absent"
        assert (await stub.Commit(pb.CommitRequest(digest=missed.digest, answer=an_answer()))).stored
        found = await stub.Lookup(a_lookup())
        assert found.hit.answer == an_answer()
        assert found.hit.tier == pb.CACHE_TIER_L1
        assert not found.hit.HasField("similarity")
        assert found.digest == missed.digest


async def test_tenants_do_not_see_each_other_even_with_the_same_digest():
    async with cache_stub() as stub:
        missed = await stub.Lookup(a_lookup(), metadata=as_tenant("a"))
        await stub.Commit(pb.CommitRequest(digest=missed.digest, answer=an_answer()), metadata=as_tenant("a"))
        assert (await stub.Lookup(a_lookup(), metadata=as_tenant("a"))).HasField("hit")
        assert (await stub.Lookup(a_lookup(), metadata=as_tenant("b"))).HasField("miss")


async def test_an_unfinished_answer_is_not_stored():
    async with cache_stub() as stub:
        digest = (await stub.Lookup(a_lookup())).digest
        for finish in (common_pb2.FINISH_REASON_CANCELLED, common_pb2.FINISH_REASON_ERROR, 0, 99):
            reply = await stub.Commit(pb.CommitRequest(digest=digest, answer=an_answer(finish)))
            assert not reply.stored
            assert reply.reason
        assert (await stub.Lookup(a_lookup())).HasField("miss")


async def test_stats_count_look_ups_hits_and_bytes():
    async with cache_stub() as stub:
        digest = (await stub.Lookup(a_lookup())).digest
        await stub.Commit(pb.CommitRequest(digest=digest, answer=an_answer()))
        await stub.Lookup(a_lookup())
        stats = await stub.Stats(pb.StatsRequest())
        (first,) = stats.tiers
        assert (first.lookup_count, first.hit_count, first.entry_count) == (2, 1, 1)
        assert 0 < first.size_bytes < first.budget_bytes
        assert stats.started_at.seconds > 0


BAD_LOOKUPS = {
    "key": pb.LookupRequest(),
    "key.model": pb.LookupRequest(key=pb.CacheKey(prompt=common_pb2.Prompt(text="hi"))),
    "key.prompt.input": pb.LookupRequest(key=pb.CacheKey(model="m")),
    "key.prompt.text": pb.LookupRequest(key=pb.CacheKey(model="m", prompt=common_pb2.Prompt(text=""))),
    "max_age": a_lookup(max_age=Duration(seconds=-1)),
    "max_error_rate": a_lookup(max_error_rate=float("nan")),
    "mode": a_lookup(mode=99),
}


@pytest.mark.parametrize("field", BAD_LOOKUPS)
async def test_a_bad_look_up_is_refused_with_the_field(field):
    async with cache_stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Lookup(BAD_LOOKUPS[field])
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(raised.value.details()).startswith(f"{field}: ")
        assert (await stub.Lookup(a_lookup())).HasField("miss")


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("answer", pb.CommitRequest(digest=b"d" * 32)),
        ("digest", pb.CommitRequest(digest=b"d" * 31, answer=an_answer())),
        ("lease_id", pb.CommitRequest(digest=b"d" * 32, answer=an_answer(), lease_id="l")),
        ("ttl", pb.CommitRequest(digest=b"d" * 32, answer=an_answer(), ttl=Duration(seconds=-5))),
    ],
)
async def test_a_bad_commit_is_refused_with_the_field(field, request_):
    async with cache_stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Commit(request_)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(raised.value.details()).startswith(f"{field}: ")


NOT_BUILT = {
    "Abandon": pb.AbandonRequest(),
    "Renew": pb.RenewRequest(),
    "Invalidate": pb.InvalidateRequest(),
    "BumpEpoch": pb.BumpEpochRequest(),
}


@pytest.mark.parametrize("method", NOT_BUILT)
async def test_what_is_not_built_says_so_with_the_reason(method):
    async with cache_stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await getattr(stub, method)(NOT_BUILT[method])
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "not built yet" in str(raised.value.details())


async def test_an_exact_look_up_tells_of_no_look_up_by_meaning():
    async with cache_stub() as stub:
        missed = await stub.Lookup(a_lookup())
        assert missed.miss.decided_by == pb.SEMANTIC_DECIDER_UNSPECIFIED
        await stub.Commit(pb.CommitRequest(digest=missed.digest, answer=an_answer()))
        found = await stub.Lookup(a_lookup(mode=common_pb2.CACHE_MODE_SEMANTIC))
        assert found.hit.decided_by == pb.SEMANTIC_DECIDER_UNSPECIFIED
        assert not found.hit.HasField("error_bound")


async def test_a_look_up_by_meaning_that_finds_nothing_says_what_decided():
    async with cache_stub() as stub:
        request = pb.LookupRequest(key=a_lookup().key, mode=common_pb2.CACHE_MODE_SEMANTIC)
        request.key.prompt.token_ids.ids.append(7)
        missed = await stub.Lookup(request)
        assert missed.miss.reason == "absent"
        assert missed.miss.decided_by == pb.SEMANTIC_DECIDER_NOT_COMPARABLE
        assert not missed.miss.HasField("similarity")


async def test_a_report_of_a_hit_that_was_never_given_is_accepted_and_says_so():
    async with cache_stub() as stub:
        digest = (await stub.Lookup(a_lookup())).digest
        assert not (await stub.ReportFalseHit(pb.ReportFalseHitRequest(digest=digest))).known


async def test_following_is_not_built_and_says_so():
    async with cache_stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in stub.Follow(pb.FollowRequest()):
                pass
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
