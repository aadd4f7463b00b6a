"""Many streams at once: how late tokens come through the router, against the pace that the engine keeps.

Each stream's tokens are due at a fixed pace, counted from its own best case, so that what is measured includes every
delay of engine, router and caller. The same load is put on the engine directly in the same run, so that the machine's
own lateness can be told from the router's; both are repeated in turn, and the claim is the median run.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import grpc

from benchmarks.report import Claim, Options, at_most, percentile
from mesh.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from mesh.router.v1 import router_service_pb2, router_service_pb2_grpc

STREAM_COUNT = 200
TOKEN_COUNT = 100
SPREAD_S = 4.0
RUN_COUNT = 5
FLUSH_INTERVAL_MS = 15.0


async def concurrent_streams(router: str, engine: str, pace_per_s: float, options: Options) -> list[Claim]:
    """Tokens of a run that came later than the flush interval, through the router and direct."""
    stream_count = 8 if options.is_smoke else STREAM_COUNT
    token_count = 10 if options.is_smoke else TOKEN_COUNT
    direct, through = [], []
    async with grpc.aio.insecure_channel(engine) as to_engine, grpc.aio.insecure_channel(router) as to_router:
        engine_stub = inference_service_pb2_grpc.InferenceServiceStub(to_engine)
        router_stub = router_service_pb2_grpc.RouterServiceStub(to_router)
        for _ in range(1 if options.is_smoke else RUN_COUNT):
            load = (stream_count, token_count, pace_per_s)
            direct.append(await _run(engine_stub, inference_service_pb2.GenerateRequest, *load))
            through.append(await _run(router_stub, router_service_pb2.GenerateRequest, *load))
    counts = [_late_count(run) for run in through]
    detail = (
        f"of {len(through[0])} tokens on {stream_count} streams at {pace_per_s:g}/s each; runs {_described(through)}; "
        f"direct {_described(direct)}"
    )
    median = statistics.median(counts)
    return [at_most("late_tokens", median, "tokens", 0, detail, low=min(counts), high=max(counts))]


async def _run(stub: Any, request_type: Any, stream_count: int, token_count: int, pace_per_s: float) -> list[float]:
    """Milliseconds by which each token was late."""
    async with asyncio.TaskGroup() as tasks:
        streams = []
        for number in range(stream_count):
            request = request_type(
                prompt={"text": f"stream {number}"},
                stopping={"max_tokens": token_count, "ignore_eos": True},
            )
            streams.append(tasks.create_task(_arrivals(stub, request)))
            await asyncio.sleep(SPREAD_S / stream_count)
    return [late_ms for stream in streams for late_ms in _lateness(stream.result(), pace_per_s)]


async def _arrivals(stub: Any, request: Any) -> list[float]:
    """When each token came; tokens that share a message came together."""
    arrivals: list[float] = []
    async for message in stub.Generate(request, timeout=300):
        if message.WhichOneof("event") == "delta":
            arrivals += [time.monotonic()] * message.delta.token_count
    return arrivals


def _late_count(lateness_ms: list[float]) -> int:
    return sum(ms > FLUSH_INTERVAL_MS for ms in lateness_ms)


def _described(runs: list[list[float]]) -> str:
    every = [ms for run in runs for ms in run]
    counts = ", ".join(str(_late_count(run)) for run in runs)
    return f"{counts} late (p50 {percentile(every, 0.5):.1f} p99 {percentile(every, 0.99):.1f} max {max(every):.1f} ms)"


def _lateness(arrivals: list[float], pace_per_s: float) -> list[float]:
    offsets = [at - position / pace_per_s for position, at in enumerate(arrivals)]
    on_time = min(offsets)
    return [(offset - on_time) * 1e3 for offset in offsets]
