"""Whether anybody is ever given another's answer: a million fuzzed look-ups and commits over all tiers.

Tenants with names that are easily mixed up, each with principals, sessions and scopes that others have by the same
name, ask the same few questions, so that every answer has many neighbours it must not be given to. Every fifth call is
followed by an attack: an answer committed under the digest that another tenant was given, whole, with a flipped bit, a
forged epoch, or bare. Each answer says for whom it was made, and each hit is checked against who asked. Most run in
this process over memory, Valkey (where there is one) and disk; some over gRPC. Epochs are bumped in between. Seeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc

from benchmarks.report import Claim, Options, at_most
from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from mesh.common.v1 import common_pb2
from meshkit.clock import SystemClock
from meshkit.errors import InvalidRequest
from meshkit.identity import PRINCIPAL_KEY, TENANT_KEY
from meshkit.settings import RegistrySettings, ServerSettings
from meshkit.testing.running import running_server
from meshkit.testing.valkey import valkey_server
from meshkit.valkey_binary import ValkeyUnavailable
from services.cache.app import CacheService, FarTier, build
from services.cache.disk.tier import DiskTier
from services.cache.entry import Finish
from services.cache.epoch_keeper import EpochKeeper
from services.cache.epochs import EVERYTHING
from services.cache.lifetime import Lifetimes, TierLifetime
from services.cache.memory_tier import MemoryTier
from services.cache.quota import Quotas, TenantMemory
from services.cache.request_key import DIGEST_BYTES, partition
from services.cache.response_cache import Answer, Caller, Mode, Query, ResponseCache, Scope
from services.cache.settings import CacheSettings, L1Settings, L2Settings, L3Settings
from services.cache.tiered import Found, Level, TieredStore, TierName
from services.cache.valkey_tier import ValkeyTier
from tests.support.flight_stores import own_flights

CLAIM = "cross_tenant_hits"
LOOKUP_COUNT, GRPC_LOOKUP_COUNT = 1_000_000, 20_000
SMOKE_DIVISOR = 500
SEED = 11
CONNECT_S = 20.0
AT_ONCE = 16
ATTACK_SHARE = 0.2
BUMP_EVERY = 20_000
TENANTS = ("a", "b", "ab", "a b", "a/b", "A", "default", "tenant", "tenant1", "tenant11", "ä", "a\u0308", "0", "00")
PRINCIPALS = ("", "a", "b", "svc", "tenant")
SESSIONS = ("", "s", "s1", "a", "b")
QUESTIONS = 12
REMEMBERED = 200
"""Digests that attackers have at hand."""
_FORGED = b"forged by "
METADATA_TENANTS = tuple(name for name in TENANTS if name.isascii())


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who asks what, shared with whom."""

    caller: Caller
    scope: Scope
    session_id: str
    question: int

    def owner(self) -> bytes:
        """For whom an answer to this is made, in words that only those who may share it have in common."""
        sharing: tuple[str, ...] = ()
        if self.scope is Scope.PRINCIPAL:
            sharing = ("principal", self.caller.principal)
        elif self.scope is Scope.SESSION:
            sharing = ("session", self.caller.principal, self.session_id)
        return repr((self.caller.tenant, sharing, self.question)).encode()


@dataclass(slots=True, kw_only=True)
class Score:
    """What came of it."""

    lookup_count: int = 0
    hit_count: int = 0
    foreign_count: int = 0
    attack_count: int = 0
    tiers: dict[str, int] = field(default_factory=dict)

    def add(self, asking: Asking, owner: bytes | None, tier: str) -> None:
        self.lookup_count += 1
        if owner is not None:
            self.hit_count += 1
            # What a tenant forges under another's digest may only ever reach that forging tenant itself.
            mine = _forgery(asking.caller.tenant) if owner.startswith(_FORGED) else asking.owner()
            self.foreign_count += owner != mine
            self.tiers[tier] = self.tiers.get(tier, 0) + 1


def cross_tenant_hits(options: Options) -> Claim:
    """The claim."""
    divisor = SMOKE_DIVISOR if options.is_smoke else 1
    started_at = time.perf_counter()
    inside, outside = asyncio.run(_fuzz(LOOKUP_COUNT // divisor, GRPC_LOOKUP_COUNT // divisor))
    took_s = time.perf_counter() - started_at
    hits = ", ".join(f"{count:,} in {tier}" for tier, count in sorted(inside.tiers.items()))
    detail = (
        f"{inside.lookup_count + outside.lookup_count:,} look-ups, {outside.lookup_count:,} of them over gRPC, "
        f"{inside.attack_count + outside.attack_count:,} forged commits, {inside.hit_count + outside.hit_count:,} hits "
        f"({hits}), {took_s:.0f} s"
    )
    return at_most(CLAIM, inside.foreign_count + outside.foreign_count, "hits", 0, detail)


async def _fuzz(inside_count: int, outside_count: int) -> tuple[Score, Score]:
    with tempfile.TemporaryDirectory(prefix="mesh-cache-bench-") as scratch:
        async with contextlib.AsyncExitStack() as stack:
            settings = CacheSettings(
                server=ServerSettings(port=0),
                registry=RegistrySettings(kind="none"),
                # Small, so that many hits come from the far tiers.
                l1=L1Settings(budget_bytes=1_200_000),
                l2=L2Settings(url=await _valkey_url(stack), timeout_s=1.0),
                l3=L3Settings(directory=Path(scratch) / "inside", budget_bytes=2**28, min_free_bytes=0, timeout_s=1.0),
            )
            inside = await _in_process(settings, inside_count)
            outside = await _over_grpc(
                replace(settings, l3=replace(settings.l3, directory=Path(scratch) / "outside")), outside_count
            )
            return inside, outside


async def _valkey_url(stack: contextlib.AsyncExitStack) -> str:
    try:
        return (await stack.enter_async_context(valkey_server())).url
    except ValkeyUnavailable:
        return ""


async def _in_process(settings: CacheSettings, count: int) -> Score:
    score, source, seen = Score(), random.Random(SEED), deque[tuple[str, bytes]](maxlen=REMEMBERED)
    async with _cache(settings) as (cache, epochs):

        async def worker() -> None:
            while score.lookup_count < count:
                await _one(cache, source, score, seen)
                if score.lookup_count % BUMP_EVERY == 0:
                    await epochs.give(partition(source.choice(TENANTS)), EVERYTHING)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(worker())
    return score


@contextlib.asynccontextmanager
async def _cache(settings: CacheSettings) -> AsyncIterator[tuple[ResponseCache, EpochKeeper]]:
    clock = SystemClock()
    lifetime = TierLifetime(ttl_s=300, jitter=0)
    epochs = EpochKeeper(settings.epochs, longest_life_s=settings.entry.max_ttl_s, clock=clock)
    memory = TenantMemory(
        budget_bytes=settings.l1.budget_bytes,
        quota_of=Quotas(settings.quota).of,
        memory=lambda budget_bytes: MemoryTier(budget_bytes=budget_bytes, lifetime=lifetime, clock=clock),
    )
    disk = DiskTier(settings.l3.directory or Path(), settings.l3, clock)
    far = [FarTier(TierName.L3, disk, settings.l3)]
    stores: list[DiskTier | ValkeyTier] = [disk]
    if settings.l2.url:
        valkey = ValkeyTier(settings.l2, lifetime, clock)
        far.insert(0, FarTier(TierName.L2, valkey, settings.l2))
        stores.append(valkey)
    store = TieredStore([Level(name=TierName.L1, store=memory), *(tier.level for tier in far)], clock, epochs.objection)
    lifetimes = Lifetimes(default_s=3600, longest_s=3600, jitter=0, random=lambda: 0.0)
    try:
        for tier in far:
            tier.start()
        async with asyncio.timeout(CONNECT_S):
            while not all(store.is_available for store in stores):
                await asyncio.sleep(0.01)
        flights = own_flights(clock)
        yield (
            ResponseCache(store, flights, limits=settings.entry, lifetimes=lifetimes, clock=clock, epochs=epochs),
            epochs,
        )
    finally:
        for tier in far:
            await tier.close()


async def _one(cache: ResponseCache, source: random.Random, score: Score, seen: deque[tuple[str, bytes]]) -> None:
    asking = _asking(source, TENANTS)
    request = {"prompt": {"text": f"question {asking.question}"}, "model": "m"}
    query = Query(request=request, mode=Mode.EXACT, scope=asking.scope, session_id=asking.session_id)
    looked = await cache.lookup(asking.caller, query)
    if isinstance(looked.result, Found):
        score.add(asking, looked.result.entry.payload, looked.result.tier.name)
    else:
        score.add(asking, None, "")
        await cache.commit(asking.caller, looked.digest, Answer(payload=asking.owner(), finish=Finish.STOP))
    # A hit in memory never waits, so nothing else would run.
    await asyncio.sleep(0)
    seen.append((asking.caller.tenant, looked.digest))
    if source.random() < ATTACK_SHARE and (forged := _forged(source, seen, asking.caller.tenant)):
        score.attack_count += 1
        answer = Answer(payload=_forgery(asking.caller.tenant), finish=Finish.STOP)
        with contextlib.suppress(InvalidRequest):
            await cache.commit(asking.caller, forged, answer)


async def _over_grpc(settings: CacheSettings, count: int) -> Score:
    score, source, seen = Score(), random.Random(SEED + 1), deque[tuple[str, bytes]](maxlen=REMEMBERED)
    async with running_server(settings, build, CacheService) as address, grpc.aio.insecure_channel(address) as channel:
        stub: Any = CacheServiceStub(channel)

        async def worker() -> None:
            while score.lookup_count < count:
                await _one_call(stub, source, score, seen)
                if score.lookup_count % (BUMP_EVERY // 10) == 0:
                    await stub.BumpEpoch(
                        pb.BumpEpochRequest(), metadata=((TENANT_KEY, source.choice(METADATA_TENANTS)),)
                    )

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(worker())
    return score


async def _one_call(stub: Any, source: random.Random, score: Score, seen: deque[tuple[str, bytes]]) -> None:
    asking = _asking(source, METADATA_TENANTS)
    metadata = ((TENANT_KEY, asking.caller.tenant), (PRINCIPAL_KEY, asking.caller.principal))
    key = pb.CacheKey(
        prompt=common_pb2.Prompt(text=f"question {asking.question}"),
        model="over gRPC",
        scope=common_pb2.CacheScope.ValueType(int(asking.scope)),
        session_id=asking.session_id,
    )
    looked = await stub.Lookup(pb.LookupRequest(key=key, mode=common_pb2.CACHE_MODE_EXACT), metadata=metadata)
    if looked.HasField("hit"):
        score.add(asking, looked.hit.answer.model.encode(), pb.CacheTier.Name(looked.hit.tier))
    else:
        score.add(asking, None, "")
        await stub.Commit(pb.CommitRequest(digest=looked.digest, answer=_answer(asking.owner())), metadata=metadata)
    seen.append((asking.caller.tenant, looked.digest))
    if source.random() < ATTACK_SHARE and (forged := _forged(source, seen, asking.caller.tenant)):
        score.attack_count += 1
        answer = _answer(_forgery(asking.caller.tenant))
        with contextlib.suppress(grpc.aio.AioRpcError):
            await stub.Commit(pb.CommitRequest(digest=forged, answer=answer), metadata=metadata)


def _answer(owner: bytes) -> pb.StoredAnswer:
    return pb.StoredAnswer(finish_reason=common_pb2.FINISH_REASON_STOP, model=owner.decode())


def _asking(source: random.Random, tenants: Sequence[str]) -> Asking:
    caller = Caller(tenant=source.choice(tenants), principal=source.choice(PRINCIPALS))
    session_id, scope = source.choice(SESSIONS), source.choice(list(Scope))
    has_owner = caller.principal if scope is Scope.PRINCIPAL else session_id if scope is Scope.SESSION else "anybody"
    return Asking(
        caller=caller,
        scope=scope if has_owner else Scope.TENANT,
        session_id=session_id,
        question=source.randrange(QUESTIONS),
    )


def _forged(source: random.Random, seen: Sequence[tuple[str, bytes]], attacker: str) -> bytes:
    """A digest that another tenant was given, or something made of it; empty where none is at hand."""
    tenant, digest = source.choice(seen)
    if tenant == attacker:
        return b""
    flipped = bytearray(digest)
    flipped[source.randrange(len(flipped))] ^= 1 << source.randrange(8)
    newest = digest[:DIGEST_BYTES] + b"\x7f" + b"\xff" * 7
    return source.choice(
        (digest, digest[:DIGEST_BYTES], bytes(flipped), newest, digest[:-1], partition(tenant) + digest)
    )


def _forgery(tenant: str) -> bytes:
    return _FORGED + tenant.encode()
