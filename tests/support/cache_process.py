"""A cache service as a process of its own, and what tests ask of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc

from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from mesh.common.v1 import common_pb2
from tests.support.free_port import free_port

START_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheProcess:
    """A running cache."""

    stub: Any
    process: asyncio.subprocess.Process


@contextlib.asynccontextmanager
async def cache_process(**settings: object) -> AsyncIterator[CacheProcess]:
    """Settings are named as in the environment, such as L2__URL. Killed without warning at the end."""
    port = free_port()
    own = {"SERVER__PORT": port, "REGISTRY__KIND": "none", **settings}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESH_CACHE_")}
    environment = {
        **kept,
        "PYTHONPATH": os.pathsep.join(sys.path),
        **{f"MESH_CACHE_{name}": str(value) for name, value in own.items()},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cache", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), START_TIMEOUT_S)
            yield CacheProcess(stub=CacheServiceStub(channel), process=process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def a_lookup(text: str) -> pb.LookupRequest:
    key = pb.CacheKey(prompt=common_pb2.Prompt(text=text), model="m", revision="r")
    key.sampling.temperature = 0
    return pb.LookupRequest(key=key)


async def commit(stub: Any, text: str, *, padding: int = 0) -> None:
    """Store an answer that says `text`, and so many bytes more."""
    digest = (await stub.Lookup(a_lookup(text))).digest
    answer = pb.StoredAnswer(finish_reason=common_pb2.FINISH_REASON_STOP, model="m")
    answer.events.add(delta=common_pb2.Delta(text=text))
    answer.events.add(delta=common_pb2.Delta(text="x" * padding))
    assert (await stub.Commit(pb.CommitRequest(digest=digest, answer=answer))).stored


async def found_in(stub: Any, text: str) -> int:
    """The tier that has the answer, which must be the right one; 0 for a miss."""
    reply = await stub.Lookup(a_lookup(text))
    if not reply.HasField("hit"):
        return 0
    assert reply.hit.answer.events[0].delta.text == text
    return int(reply.hit.tier)


async def tier_stats(stub: Any, tier: int) -> pb.TierStats:
    stats = await stub.Stats(pb.StatsRequest())
    return next(found for found in stats.tiers if found.tier == tier)
