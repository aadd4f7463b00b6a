"""Router overhead: latency through the mesh with an engine that answers at once, minus a direct call to that engine.

Open loop: requests leave at set times, whether or not earlier ones have been answered. Calls through the mesh, through
a bare proxy (what a hop costs in gRPC for Python by itself) and direct calls take turns, so that all meet the same
machine. Each prompt is new and asked at temperature 0, so that each request pays for a cache look-up, a compression and
a commit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from benchmarks.report import Claim, Options, at_most, median_interval, percentile
from benchmarks.router.bare_proxy import bare_proxy
from mesh.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from mesh.router.v1 import router_service_pb2, router_service_pb2_grpc

RATE_PER_S = 20.0
REQUEST_COUNT = 900
WARM_UP_COUNT = 90
BAR_MS = 2.5
WORDS = "tell me something short about the number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One call, in milliseconds."""

    first_ms: float
    whole_ms: float


Way = Callable[[str], Awaitable[Sample]]


async def overhead(router: str, engine: str, options: Options) -> list[Claim]:
    """Medians of whole calls and of the time to the first token: through the mesh, a bare proxy, and direct."""
    count = 60 if options.is_smoke else REQUEST_COUNT
    warm_up = 15 if options.is_smoke else WARM_UP_COUNT
    with bare_proxy(engine) as proxy:
        async with (
            grpc.aio.insecure_channel(router) as to_router,
            grpc.aio.insecure_channel(proxy) as to_proxy,
            grpc.aio.insecure_channel(engine) as to_engine,
        ):
            ways = (
                _through(router_service_pb2_grpc.RouterServiceStub(to_router)),
                _direct(inference_service_pb2_grpc.InferenceServiceStub(to_proxy)),
                _direct(inference_service_pb2_grpc.InferenceServiceStub(to_engine)),
            )
            await _take_turns(ways, warm_up, first_number=0)
            samples = await _take_turns(ways, count, first_number=warm_up)
    return list(_claims(*samples, options))


def _claims(meshed: list[Sample], proxied: list[Sample], plain: list[Sample], options: Options) -> Iterator[Claim]:
    for name, pick in (("overhead_p50", lambda s: s.whole_ms), ("overhead_ttft_p50", lambda s: s.first_ms)):
        if not options.wants(name):
            continue
        through, bare, direct = ([pick(s) for s in samples] for samples in (meshed, proxied, plain))
        middle, low, high = median_interval(through)
        base, base_low, base_high = median_interval(direct)
        hop = median_interval(bare)[0] - base
        detail = (
            f"{(middle - base) / hop:.1f} x a bare proxy's {hop:.2f} ms; mesh p50 {middle:.2f} p95 "
            f"{percentile(through, 0.95):.2f} p99 {percentile(through, 0.99):.2f} ms; direct p50 {base:.2f} p99 "
            f"{percentile(direct, 0.99):.2f} ms; {len(through)} calls each, {RATE_PER_S:g}/s in all"
        )
        yield at_most(name, middle - base, "ms", BAR_MS, detail, low=low - base_high, high=high - base_low)


async def _take_turns(ways: Sequence[Way], count: int, *, first_number: int) -> list[list[Sample]]:
    """Samples of each way; arrivals are spaced evenly and go to each way in turn."""
    began_at = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        calls = []
        for number in range(count):
            await asyncio.sleep(max(0.0, began_at + number / RATE_PER_S - time.monotonic()))
            way = ways[number % len(ways)]
            calls.append(tasks.create_task(way(f"{WORDS} {first_number + number}")))
    samples = [call.result() for call in calls]
    return [samples[position :: len(ways)] for position in range(len(ways))]


def _through(stub: Any) -> Way:
    async def ask(text: str) -> Sample:
        request = router_service_pb2.GenerateRequest(
            prompt={"text": text}, sampling={"temperature": 0}, stopping={"max_tokens": 16}
        )
        return await _sample(stub.Generate(request, timeout=30))

    return ask


def _direct(stub: Any) -> Way:
    async def ask(text: str) -> Sample:
        request = inference_service_pb2.GenerateRequest(
            prompt={"text": text}, sampling={"temperature": 0}, stopping={"max_tokens": 16}
        )
        return await _sample(stub.Generate(request, timeout=30))

    return ask


async def _sample(stream: AsyncIterator[Any]) -> Sample:
    """Time to the first delta and to `finished`, from before the call."""
    began_at = time.perf_counter()
    first_at = finished_at = 0.0
    async for message in stream:
        kind = message.WhichOneof("event")
        if kind == "delta" and not first_at:
            first_at = time.perf_counter()
        elif kind == "finished":
            finished_at = time.perf_counter()
    return Sample(first_ms=(first_at - began_at) * 1e3, whole_ms=(finished_at - began_at) * 1e3)
