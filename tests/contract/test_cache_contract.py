"""The cache over real gRPC: what callers get for good and for bad requests."""

import asyncio
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
        missed = await stub.Lookup(a_lookup())
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


async def test_an_exact_look_up_tells_of_no_look_up_by_meaning():
    async with cache_stub() as stub:
        missed = await stub.Lookup(a_lookup())
        assert not missed.HasField("semantic")
        await stub.Commit(pb.CommitRequest(digest=missed.digest, answer=an_answer()))
        found = await stub.Lookup(a_lookup(mode=common_pb2.CACHE_MODE_SEMANTIC))
        assert found.HasField("hit")
        assert not found.HasField("semantic")
        assert not found.hit.HasField("error_bound")


@pytest.mark.parametrize("shares", [False, True])
async def test_a_look_up_by_meaning_that_finds_nothing_says_what_decided(shares):
    async with cache_stub() as stub:
        request = pb.LookupRequest(key=a_lookup().key, mode=common_pb2.CACHE_MODE_SEMANTIC, single_flight=shares)
        request.key.prompt.token_ids.ids.append(7)
        missed = await stub.Lookup(request)
        assert missed.WhichOneof("result") == ("lead" if shares else "miss")
        assert missed.semantic.decided_by == pb.SEMANTIC_DECIDER_NOT_COMPARABLE
        assert not missed.semantic.HasField("similarity")


async def test_a_report_of_a_hit_that_was_never_given_is_accepted_and_says_so():
    async with cache_stub() as stub:
        digest = (await stub.Lookup(a_lookup())).digest
        assert not (await stub.ReportFalseHit(pb.ReportFalseHitRequest(digest=digest))).known


def events_of(answer: pb.StoredAnswer, first: int = 0) -> pb.RenewRequest:
    return pb.RenewRequest(events=answer.events[first:], first_event=first)


async def heard(stub, lease_id: str, from_event: int = 0, metadata=None) -> list[pb.FollowResponse]:
    call = stub.Follow(pb.FollowRequest(lease_id=lease_id, from_event=from_event), metadata=metadata, timeout=10)
    return [response async for response in call]


async def test_the_second_to_ask_follows_the_first_from_its_first_event_to_the_whole_answer():
    async with cache_stub() as stub:
        leader = await stub.Lookup(a_lookup(single_flight=True))
        assert leader.lead.lease_id and leader.lead.ttl.ToTimedelta().total_seconds() > 0
        renewed = await stub.Renew(pb.RenewRequest(lease_id=leader.lead.lease_id, events=an_answer().events[:1]))
        assert not renewed.is_followed and renewed.ttl.ToTimedelta().total_seconds() > 0
        follower = await stub.Lookup(a_lookup(single_flight=True))
        assert follower.digest == leader.digest
        hearing = asyncio.create_task(heard(stub, follower.follow.lease_id))
        renewal = events_of(an_answer(), first=1)
        renewal.lease_id = leader.lead.lease_id
        assert (await stub.Renew(renewal)).is_followed
        commit = pb.CommitRequest(digest=leader.digest, lease_id=leader.lead.lease_id, answer=an_answer())
        assert (await stub.Commit(commit)).stored
        *deltas, last = await hearing
        assert [response.delta for response in deltas] == list(an_answer().events)
        assert last.finished.usage == an_answer().usage and last.finished.cost_micro_usd == 7
        assert not last.finished.events
        assert (await stub.Lookup(a_lookup(single_flight=True))).hit.answer == an_answer()


async def test_a_follower_leads_when_the_leader_gives_up_and_goes_on_where_it_stopped():
    async with cache_stub() as stub:
        leader = await stub.Lookup(a_lookup(single_flight=True))
        await stub.Renew(pb.RenewRequest(lease_id=leader.lead.lease_id, events=an_answer().events[:1]))
        ticket = (await stub.Lookup(a_lookup(single_flight=True))).follow.lease_id
        await stub.Abandon(pb.AbandonRequest(lease_id=leader.lead.lease_id))
        event, takeover = await heard(stub, ticket)
        assert event.delta == an_answer().events[0] and takeover.lead.lease_id
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Renew(pb.RenewRequest(lease_id=leader.lead.lease_id))
        assert raised.value.code() is grpc.StatusCode.ABORTED
        await stub.Renew(pb.RenewRequest(lease_id=takeover.lead.lease_id, events=an_answer().events[1:], first_event=1))
        await stub.Commit(pb.CommitRequest(digest=leader.digest, lease_id=takeover.lead.lease_id, answer=an_answer()))
        *deltas, _ = await heard(stub, ticket)
        assert [response.delta for response in deltas] == list(an_answer().events)


async def test_a_foreign_lease_reaches_nothing():
    async with cache_stub() as stub:
        leader = await stub.Lookup(a_lookup(single_flight=True), metadata=as_tenant("a"))
        lease_id = leader.lead.lease_id
        await stub.Renew(pb.RenewRequest(lease_id=lease_id, events=an_answer().events), metadata=as_tenant("a"))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await heard(stub, lease_id, metadata=as_tenant("b"))
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Renew(pb.RenewRequest(lease_id=lease_id), metadata=as_tenant("b"))
        assert raised.value.code() is grpc.StatusCode.ABORTED
        await stub.Abandon(pb.AbandonRequest(lease_id=lease_id), metadata=as_tenant("b"))
        assert (await stub.Lookup(a_lookup(single_flight=True), metadata=as_tenant("a"))).HasField("follow")


async def test_a_lease_of_another_digest_ends_nothing():
    async with cache_stub() as stub:
        leader = await stub.Lookup(a_lookup(single_flight=True))
        other = await stub.Lookup(a_lookup("other"))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Commit(pb.CommitRequest(digest=other.digest, lease_id=leader.lead.lease_id, answer=an_answer()))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(raised.value.details()).startswith("lease_id: ")


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("lease_id", pb.FollowRequest(lease_id="what")),
        ("from_event", pb.FollowRequest(lease_id="l.00.00.1", from_event=-1)),
    ],
)
async def test_bad_following_is_refused_with_the_field(field, request_):
    async with cache_stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in stub.Follow(request_):
                pass
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(raised.value.details()).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("method", "field", "request_"),
    [
        ("Renew", "lease_id", pb.RenewRequest()),
        ("Renew", "first_event", pb.RenewRequest(lease_id="l.00.00.1", first_event=-1)),
        ("Abandon", "lease_id", pb.AbandonRequest()),
    ],
)
async def test_bad_leading_is_refused_with_the_field(method, field, request_):
    async with cache_stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await getattr(stub, method)(request_)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(raised.value.details()).startswith(f"{field}: ")
