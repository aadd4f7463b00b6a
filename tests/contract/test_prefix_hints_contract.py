"""Who holds the beginning of a prompt: from two engines' KV events over the cache's hint to the router's choice."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from mesh.cache.v1 import cache_service_pb2
from mesh.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2 as pb
from meshkit.incoming import DEFAULT_TENANT
from tests.support.small_mesh import SmallMesh, small_mesh

PATIENCE_S = 20.0
CONVERSATIONS = 16
Turns = list[dict[str, str]]


async def ask(mesh: SmallMesh, turns: Turns) -> tuple[str, str, int]:
    """The instance that answered, the answer, and how many tokens of the prompt it had."""
    request = pb.GenerateRequest(
        prompt={"messages": {"messages": turns}},
        stopping={"max_tokens": 16},
        compression={"mode": common_pb2.COMPRESSION_MODE_OFF},
    )
    reply = await mesh.stub.GenerateOnce(request, timeout=PATIENCE_S)
    return reply.accepted.instance, reply.text, reply.finished.usage.cached_prompt_tokens


async def hint(mesh: SmallMesh, turns: Turns, tenant: str = DEFAULT_TENANT) -> cache_service_pb2.PrefixHint:
    """What the cache says, asked as a router would."""
    instance = mesh.registry.watch("mesh-inference").current[0]
    key = cache_service_pb2.CacheKey(
        prompt={"messages": {"messages": turns}},
        model=instance.metadata["model"],
        revision=instance.metadata["revision"],
        template_digest=instance.metadata["template_digest"],
    )
    async with grpc.aio.insecure_channel(mesh.cache) as channel:
        stub: Any = CacheServiceStub(channel)
        request = cache_service_pb2.LookupRequest(key=key, wants_prefix_hint=True)
        reply = await stub.Lookup(request, timeout=PATIENCE_S, metadata=(("x-mesh-tenant", tenant),))
    return reply.prefix


async def known_holders(mesh: SmallMesh, turns: Turns) -> dict[str, int]:
    """As soon as there are any."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await hint(mesh, turns)
            if found.holders:
                return {holder.instance: holder.resident_tokens for holder in found.holders}


def conversation(number: int) -> Turns:
    system = {"role": "system", "content": f"{number:03} is your number. " + "Be brief and be right. " * 20}
    return [system, {"role": "user", "content": "What is the first thing to do?"}]


async def second_turns(mesh: SmallMesh, *, gives_hints: bool) -> list[tuple[bool, int]]:
    """Of each conversation: whether its second turn went where the first had gone, and the tokens it found there."""
    outcomes = []
    for number in range(CONVERSATIONS):
        turns = conversation(number)
        first, answer, _ = await ask(mesh, turns)
        if gives_hints:
            assert list(await known_holders(mesh, turns)) == [first]
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And then?"}]
        second, _, cached_count = await ask(mesh, turns)
        outcomes.append((second == first, cached_count))
    return outcomes


async def test_a_second_turn_goes_to_the_engine_that_has_the_first_and_finds_it_there() -> None:
    async with small_mesh(engine_count=2) as mesh:
        outcomes = await second_turns(mesh, gives_hints=True)
    assert all(is_same and cached_count > 400 for is_same, cached_count in outcomes), outcomes


async def test_without_hints_second_turns_go_anywhere() -> None:
    async with small_mesh(engine_count=2, gives_hints=False) as mesh:
        outcomes = await second_turns(mesh, gives_hints=False)
        assert not (await hint(mesh, conversation(0))).marks
    assert not all(is_same for is_same, _ in outcomes), "by lot, all of them would go right once in 65,536 runs"


async def test_the_hint_is_about_as_long_as_what_the_engine_finds() -> None:
    async with small_mesh(engine_count=2) as mesh:
        turns = conversation(0)
        instance, _, _ = await ask(mesh, turns)
        holders = await known_holders(mesh, [turns[0], {"role": "user", "content": "Something else entirely?"}])
        _, _, cached_count = await ask(mesh, [turns[0], {"role": "user", "content": "Something else entirely?"}])
    assert abs(holders[instance] - cached_count) <= 32, (holders, cached_count)


async def test_another_tenant_gets_no_hint_of_the_same_prompt() -> None:
    async with small_mesh(engine_count=2) as mesh:
        turns = conversation(0)
        await ask(mesh, turns)
        await known_holders(mesh, turns)
        foreign = await hint(mesh, turns, tenant="b")
    assert foreign.marks and not foreign.holders and not foreign.is_noted


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"marks": b"?"}, "marks"), ({"block_hashes": []}, "block_hashes"), ({"block_tokens": 0}, "block_tokens")],
)
async def test_a_bad_note_is_refused_with_the_field(changes: dict[str, Any], field: str) -> None:
    async with small_mesh() as mesh, grpc.aio.insecure_channel(mesh.cache) as channel:
        marks = (await hint(mesh, conversation(0))).marks
        good = {"marks": marks, "block_hashes": [1, 2], "block_tokens": 16, "prompt_tokens": 40}
        stub: Any = CacheServiceStub(channel)
        await stub.NotePrefix(cache_service_pb2.NotePrefixRequest(**good))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.NotePrefix(cache_service_pb2.NotePrefixRequest(**{**good, **changes}))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in str(refused.value.details())


async def test_a_hit_carries_no_hint() -> None:
    async with small_mesh() as mesh, grpc.aio.insecure_channel(mesh.cache) as channel:
        stub: Any = CacheServiceStub(channel)
        key = cache_service_pb2.CacheKey(prompt={"text": "hi"}, model="m", sampling={"temperature": 0})
        request = cache_service_pb2.LookupRequest(key=key, wants_prefix_hint=True)
        missed = await stub.Lookup(request)
        answer = cache_service_pb2.StoredAnswer(finish_reason=common_pb2.FINISH_REASON_STOP)
        await stub.Commit(cache_service_pb2.CommitRequest(digest=missed.digest, answer=answer))
        found = await stub.Lookup(request)
    assert missed.prefix.marks and found.HasField("hit") and not found.HasField("prefix")
