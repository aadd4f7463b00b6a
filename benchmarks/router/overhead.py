"""Router overhead: latency through the mesh with an engine that answers at once, minus a direct call to that engine.

Open loop: requests leave at set times, whether or not earlier ones have been answered. Calls through the mesh and
direct calls take turns, so that both meet the same machine. Each prompt is new and asked at temperature 0, so each
request pays for a cache look-up, a compression and a commit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from benchmarks.report import Claim, Options, at_most, median_interval, percentile
from mesh.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from mesh.router.v1 import router_service_pb2, router_service_pb2_grpc

RATE_PER_S = 20.0
REQUEST_COUNT = 600
WARM_UP_COUNT = 60
BAR_MS = 2.5
WORDS = "tell me something short about the number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One call, in milliseconds."""

    first_ms: float
    whole_ms: float


async def overhead(router: str, engine: str, options: Options) -> list[Claim]:
    """Medians of whole calls and of the time to the first token, through the mesh and direct."""
    count = 40 if options.is_smoke else REQUEST_COUNT
    warm_up = 10 if options.is_smoke else WARM_UP_COUNT
    async with grpc.aio.insecure_channel(router) as to_router, grpc.aio.insecure_channel(engine) as to_engine:
        through = router_service_pb2_grpc.RouterServiceStub(to_router)
        direct = inference_service_pb2_grpc.InferenceServiceStub(to_engine)
        await _alternate(through, direct, warm_up, first_number=0)
        meshed, plain = await _alternate(through, direct, count, first_number=warm_up)
    return list(_claims(meshed, plain, options))


def _claims(meshed: list[Sample], plain: list[Sample], options: Options) -> Iterator[Claim]:
    for name, pick in (("overhead_p50", lambda s: s.whole_ms), ("overhead_ttft_p50", lambda s: s.first_ms)):
        if not options.wants(name):
            continue
        through, direct = [pick(s) for s in meshed], [pick(s) for s in plain]
        middle, low, high = median_interval(through)
        base, base_low, base_high = median_interval(direct)
        detail = (
            f"mesh p50 {middle:.2f} p95 {percentile(through, 0.95):.2f} p99 {percentile(through, 0.99):.2f} ms; "
            f"direct p50 {base:.2f} p99 {percentile(direct, 0.99):.2f} ms; "
            f"{len(through)} + {len(direct)} calls at {RATE_PER_S:g}/s"
        )
        yield at_most(name, middle - base, "ms", BAR_MS, detail, low=low - base_high, high=high - base_low)


async def _alternate(through: Any, direct: Any, count: int, *, first_number: int) -> tuple[list[Sample], list[Sample]]:
    began_at = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        calls = []
        for number in range(count):
            await asyncio.sleep(max(0.0, began_at + number / RATE_PER_S - time.monotonic()))
            text = f"{WORDS} {first_number + number}"
            call = _through(through, text) if number % 2 else _direct(direct, text)
            calls.append(tasks.create_task(call))
    samples = [call.result() for call in calls]
    return samples[1::2], samples[0::2]


async def _through(stub: Any, text: str) -> Sample:
    request = router_service_pb2.GenerateRequest(
        prompt={"text": text}, sampling={"temperature": 0}, stopping={"max_tokens": 16}
    )
    return await _sample(stub.Generate(request, timeout=30))


async def _direct(stub: Any, text: str) -> Sample:
    request = inference_service_pb2.GenerateRequest(
        prompt={"text": text}, sampling={"temperature": 0}, stopping={"max_tokens": 16}
    )
    return await _sample(stub.Generate(request, timeout=30))


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
