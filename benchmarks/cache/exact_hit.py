"""Exact first-tier hits over gRPC beside a bare echo of the same bytes, at a fixed rate of arrivals, in one run.

Client and both servers share one process, so the absolute times are above those of separate ones; the ratio is what
counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc

from benchmarks.report import Claim, Options, at_most, percentile
from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from mesh.common.v1 import common_pb2
from meshkit.settings import RegistrySettings, ServerSettings
from meshkit.testing.running import running_server
from services.cache.app import CacheService, build
from services.cache.settings import CacheSettings

P50, P99 = "l1_hit_p50", "l1_hit_p99"
CLAIMS = (P50, P99)
RATE_PER_S = 200
WARM_UP_S = 1
MEASURED_S = 10
ROUNDS = 3


def exact_hit(options: Options) -> Iterable[Claim]:
    """Both claims from the same runs."""
    hits, echoes = asyncio.run(measured(1 if options.is_smoke else MEASURED_S))
    for name, share, bar in ((P50, 0.5, 1.2), (P99, 0.99, 2.0)):
        if options.wants(name):
            hit_ms, echo_ms = percentile(hits, share) * 1000, percentile(echoes, share) * 1000
            yield at_most(name, hit_ms / echo_ms, "x a bare echo", bar, f"{hit_ms:.2f} ms against {echo_ms:.2f} ms")


async def measured(seconds: float) -> tuple[list[float], list[float]]:
    """Latencies of hits and of echoes, in turns."""
    settings = CacheSettings(server=ServerSettings(port=0), registry=RegistrySettings(kind="none"))
    async with running_server(settings, build, CacheService) as address, grpc.aio.insecure_channel(address) as channel:
        stub: Any = CacheServiceStub(channel)
        request, reply = await a_hit(stub)
        async with echo(reply.SerializeToString()) as call_echo:
            hits: list[float] = []
            echoes: list[float] = []
            for _ in range(ROUNDS):
                hits += await latencies(lambda: stub.Lookup(request), seconds / ROUNDS)
                echoes += await latencies(lambda: call_echo(request.SerializeToString()), seconds / ROUNDS)
            return hits, echoes


async def a_hit(stub: Any) -> tuple[pb.LookupRequest, pb.LookupResponse]:
    """A prompt of 2,000 characters and an answer of 100 events."""
    key = pb.CacheKey(prompt=common_pb2.Prompt(text="some text " * 200), model="m", revision="r")
    key.sampling.temperature = 0
    request = pb.LookupRequest(key=key)
    answer = pb.StoredAnswer(finish_reason=common_pb2.FINISH_REASON_STOP, model="m")
    for number in range(100):
        answer.events.add(delta=common_pb2.Delta(text="word ", token_ids=[number]))
    digest = (await stub.Lookup(request)).digest
    await stub.Commit(pb.CommitRequest(digest=digest, answer=answer))
    return request, await stub.Lookup(request)


@contextlib.asynccontextmanager
async def echo(reply: bytes) -> AsyncIterator[Any]:
    """A server that answers these bytes to any, without parsing."""

    async def answer(request: Any, context: Any) -> Any:
        return reply

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.unary_unary("/echo.Echo/Echo")
    finally:
        await server.stop(None)


async def latencies(call: Callable[[], Awaitable[object]], seconds: float) -> list[float]:
    """Open loop: calls start on time, whether or not earlier ones have ended; the warm-up is not counted."""
    found: list[float] = []
    started_at = time.perf_counter()

    async def one(due_at: float) -> None:
        await call()
        if due_at - started_at >= WARM_UP_S:
            found.append(time.perf_counter() - due_at)

    async with asyncio.TaskGroup() as calls:
        for number in range(int((WARM_UP_S + seconds) * RATE_PER_S)):
            due_at = started_at + number / RATE_PER_S
            await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
            calls.create_task(one(due_at))
    return found
