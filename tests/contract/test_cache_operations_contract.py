"""The cache's operations over real gRPC: invalidation, its record, and entries out and in."""

import grpc
import pytest

from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.common.v1 import common_pb2
from tests.contract.test_cache_contract import a_lookup, an_answer, as_tenant, cache_stub

ANN, BOB = as_tenant("ann"), as_tenant("bob")


async def commit(stub, text, *, tenant=ANN, **changes) -> bytes:
    digest = (await stub.Lookup(a_lookup(text), metadata=tenant)).digest
    request = pb.CommitRequest(digest=digest, answer=an_answer(), **changes)
    assert (await stub.Commit(request, metadata=tenant)).stored
    return digest


async def has(stub, text, *, tenant=ANN) -> bool:
    return (await stub.Lookup(a_lookup(text), metadata=tenant)).HasField("hit")


async def test_invalidate_only_counts_unless_told_to_apply():
    async with cache_stub() as stub:
        await commit(stub, "one", tags=["faq"])
        counted = await stub.Invalidate(pb.InvalidateRequest(tag="faq"), metadata=ANN)
        assert (counted.entry_count, counted.exact, counted.epoch, counted.shared) == (1, True, 0, False)
        assert counted.size_bytes > 0
        assert [(tier.tier, tier.entry_count, tier.complete) for tier in counted.tiers] == [(pb.CACHE_TIER_L1, 1, True)]
        assert await has(stub, "one")
        applied = await stub.Invalidate(pb.InvalidateRequest(tag="faq", apply=True), metadata=ANN)
        assert (applied.entry_count, applied.shared) == (1, True)
        assert applied.epoch > 0
        assert (await stub.Lookup(a_lookup("one"), metadata=ANN)).miss.reason in ("absent", "invalidated")


@pytest.mark.parametrize("selector", ["whole_tenant", "revision", "tag", "digest_prefix"])
async def test_each_selector_forgets_what_it_names_of_the_callers_tenant_alone(selector):
    async with cache_stub() as stub:
        digest = await commit(stub, "one", tags=["faq"])
        await commit(stub, "one", tenant=BOB, tags=["faq"])
        value = {"whole_tenant": True, "revision": "r", "tag": "faq", "digest_prefix": digest[:4]}[selector]
        request = pb.InvalidateRequest(apply=True, **{selector: value})
        assert (await stub.Invalidate(request, metadata=ANN)).entry_count == 1
        assert not await has(stub, "one")
        assert await has(stub, "one", tenant=BOB)


async def test_a_bump_hides_every_older_entry_and_one_key_is_one_bump():
    async with cache_stub() as stub:
        await commit(stub, "one")
        bumped = await stub.BumpEpoch(pb.BumpEpochRequest(idempotency_key="k"), metadata=ANN)
        assert bumped.shared
        assert (await stub.Lookup(a_lookup("one"), metadata=ANN)).miss.reason == "invalidated"
        await commit(stub, "one")
        assert await stub.BumpEpoch(pb.BumpEpochRequest(idempotency_key="k"), metadata=ANN) == bumped
        assert await has(stub, "one")
        again = await stub.BumpEpoch(pb.BumpEpochRequest(idempotency_key="k2"), metadata=ANN)
        assert again.epoch > bumped.epoch
        assert not await has(stub, "one")


async def test_what_was_applied_is_listed_for_its_tenant():
    async with cache_stub() as stub:
        await commit(stub, "one", tags=["faq"])
        await stub.Invalidate(pb.InvalidateRequest(tag="faq", apply=True, reason="it changed"), metadata=ANN)
        await stub.BumpEpoch(pb.BumpEpochRequest(reason="new model"), metadata=ANN)
        listed = (await stub.ListInvalidations(pb.ListInvalidationsRequest(), metadata=ANN)).records
        assert [(one.selector, one.value, one.reason) for one in listed] == [
            ("everything", "", "new model"),
            ("tag", "faq", "it changed"),
        ]
        assert (listed[1].entry_count, listed[1].exact, listed[1].shared) == (1, True, True)
        assert listed[0].at.seconds > 0
        assert not (await stub.ListInvalidations(pb.ListInvalidationsRequest(), metadata=BOB)).records


BAD_ORDERS = {
    "selector": pb.InvalidateRequest(apply=True),
    "whole_tenant": pb.InvalidateRequest(whole_tenant=False, apply=True),
    "revision": pb.InvalidateRequest(revision=""),
    "tag": pb.InvalidateRequest(tag="t" * 257),
    "digest_prefix": pb.InvalidateRequest(digest_prefix=bytes(33)),
    "reason": pb.InvalidateRequest(tag="t", reason="r" * 1001),
    "idempotency_key": pb.InvalidateRequest(tag="t", idempotency_key="k" * 257),
}


@pytest.mark.parametrize("field", BAD_ORDERS)
async def test_a_bad_order_is_refused_with_the_field_and_forgets_nothing(field):
    async with cache_stub() as stub:
        await commit(stub, "one", tags=["t"])
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Invalidate(BAD_ORDERS[field], metadata=ANN)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(raised.value.details()).startswith("selector: " if field == "whole_tenant" else f"{field}: ")
        assert await has(stub, "one")


async def exported(stub, tenant) -> list[pb.ExportedEntry]:
    return [entry async for part in stub.Export(pb.ExportRequest(), metadata=tenant) for entry in part.entries]


def importing(*entries, **options) -> pb.ImportRequest:
    return pb.ImportRequest(entries=entries, **options)


async def test_what_is_exported_serves_in_another_cache_for_whoever_imports_it():
    async with cache_stub() as here, cache_stub() as there:
        for number in range(70):
            await commit(here, f"{number}", tags=["faq"])
        await commit(here, "bob's", tenant=BOB)
        entries = await exported(here, ANN)
        assert len(entries) == 70
        assert entries[0].answer == an_answer()
        reply = await there.Import(importing(*entries), metadata=BOB)
        assert reply.stored_count == 70
        assert await has(there, "69", tenant=BOB)
        assert not await has(there, "69", tenant=ANN)
        assert not await has(there, "bob's", tenant=BOB)


async def test_an_import_says_what_it_left_out_and_why():
    async with cache_stub() as stub:
        await commit(stub, "one")
        (entry,) = await exported(stub, ANN)
        await stub.BumpEpoch(pb.BumpEpochRequest(), metadata=ANN)
        over, cut, short = (pb.ExportedEntry.FromString(entry.SerializeToString()) for _ in range(3))
        over.expires_at.seconds = 1
        cut.answer.finish_reason = common_pb2.FINISH_REASON_CANCELLED
        short.digest = b"d"
        reply = await stub.Import(importing(entry, over, cut, short), metadata=ANN)
        assert (reply.stored_count, reply.expired_count, reply.invalidated_count, reply.refused_count) == (0, 1, 1, 2)
        assert (await stub.Import(importing(entry, as_new=True), metadata=ANN)).stored_count == 1
        assert await has(stub, "one")


async def test_an_empty_cache_exports_nothing_and_an_empty_import_is_fine():
    async with cache_stub() as stub:
        assert await exported(stub, ANN) == []
        assert await stub.Import(importing(), metadata=ANN) == pb.ImportResponse()
