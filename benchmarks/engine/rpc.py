"""What it costs that streams go through the RPC process: a step's time at 32 gRPC callers, and at the engine's line.

The callers are coroutines of this process, on the same cores as the RPC process and the ranks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import psutil

from benchmarks.engine.our_engine import KV_TOKENS, MAX_SEQUENCES, OurEngine
from benchmarks.engine.prompts import PROMPT_TOKENS, make_prompts
from benchmarks.engine.setup import Setup
from benchmarks.report import Claim, at_most
from mesh.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from tests.support.free_port import free_port

CLAIM = "rpc_overhead"
BAR = 10.0
STREAMS, DRAWN_TOKENS = 32, 32
PATIENCE_S = 180.0
ROOT = Path(__file__).parents[2]


def rpc_overhead(setup: Setup, engine: OurEngine) -> Iterator[Claim]:
    """Both engines stay up and take turns, so that both meet the same machine."""
    drawn = 8 if setup.is_smoke else DRAWN_TOKENS
    prompts = make_prompts(setup.model_dir, [PROMPT_TOKENS] * STREAMS, "rpc")
    direct, through, busy = [], [], []
    with _service(setup) as (address, process):
        engine.hold(prompts)
        for _ in range(setup.repetitions):
            direct.append(STREAMS / engine.decode(drawn))
            step_s, busy_s = asyncio.run(_stream(address, prompts, drawn, process))
            through.append(step_s)
            busy.append(busy_s)
    before, after = statistics.median(direct), statistics.median(through)
    detail = (
        f"{STREAMS} streams; a step takes {_milliseconds(direct)} direct, {_milliseconds(through)} through gRPC; the "
        f"RPC process uses {_milliseconds(busy)} of a core a step; {engine.in_words}"
    )
    yield at_most(CLAIM, (after / before - 1) * 100, "% of a step", BAR, detail)


def _milliseconds(seconds: list[float]) -> str:
    middle, low, high = (value * 1e3 for value in (statistics.median(seconds), min(seconds), max(seconds)))
    return f"{middle:.1f} ms ({low:.1f}-{high:.1f})"


@contextlib.contextmanager
def _service(setup: Setup) -> Iterator[tuple[str, psutil.Process]]:
    """An inference instance without registry, for the length of a block."""
    port = free_port()
    command = [sys.executable, "-m", "services.inference"]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **_settings(setup, port)}, stderr=subprocess.DEVNULL
    )
    try:
        _await_health(f"127.0.0.1:{port}", process)
        yield f"127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _settings(setup: Setup, port: int) -> dict[str, str]:
    engine = {"kv_tokens": KV_TOKENS, "max_sequences": MAX_SEQUENCES, **_engine_settings(setup.engine)}
    values: dict[str, Any] = {
        "SERVER__PORT": port,
        "REGISTRY__KIND": "none",
        "MODEL__SOURCE": setup.model_dir.absolute(),
        **{f"ENGINE__{name.upper()}": value for name, value in engine.items()},
    }
    return {f"MESH_INFERENCE_{name}": str(value) for name, value in values.items()}


def _engine_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the service that start an engine with these options."""
    return {
        "tensor_parallel_size": options["tensor_parallel_size"],
        "threads_per_rank": options["threads"],
        "dtype": "int8" if options["quantization"] == "int8" else options["dtype"],
    }


def _await_health(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    request = inference_service_pb2.GenerateRequest(prompt={"token_ids": {"ids": [1]}}, stopping={"max_tokens": 1})
    with grpc.insecure_channel(address) as channel:
        stub = inference_service_pb2_grpc.InferenceServiceStub(channel)
        while time.monotonic() < deadline and process.poll() is None:
            try:
                list(stub.Generate(request, wait_for_ready=True, timeout=max(1.0, deadline - time.monotonic())))
                return
            except grpc.RpcError:
                time.sleep(0.2)
    raise TimeoutError(f"the inference service at {address} did not become ready")


async def _stream(address: str, prompts: list[list[int]], drawn: int, process: psutil.Process) -> tuple[float, float]:
    """Seconds of a step while all streams draw, and the RPC process's own processor time in one."""
    count = len(prompts)
    arrivals: list[float] = []  # when each token came, from the first moment at which all streams had one
    started: set[int] = set()
    cpu_s = [0.0]
    ended = asyncio.Event()

    def arrived(stream: int, tokens: int) -> None:
        if len(started) == count:
            arrivals.extend([time.monotonic()] * tokens)
        started.add(stream)
        if not cpu_s[0] and len(started) == count:
            cpu_s[0] = _cpu_s(process)
        if len(arrivals) >= drawn * count:
            ended.set()

    async with grpc.aio.insecure_channel(address) as channel:
        stub = inference_service_pb2_grpc.InferenceServiceStub(channel)
        tasks = [asyncio.create_task(_follow(stub, prompts[i], drawn, i, arrived)) for i in range(count)]
        await asyncio.wait_for(ended.wait(), PATIENCE_S)
        used_s = _cpu_s(process) - cpu_s[0]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    steps = len(arrivals) / count
    return (arrivals[-1] - arrivals[0]) / (steps - 1), used_s / steps


async def _follow(stub: Any, prompt: list[int], drawn: int, stream: int, arrived: Any) -> None:
    """More is drawn than is counted, as with our engine direct."""
    request = inference_service_pb2.GenerateRequest(
        prompt={"token_ids": {"ids": prompt}},
        sampling={"temperature": 0.0},
        stopping={"max_tokens": drawn + 2 * STREAMS + 16, "ignore_eos": True},
    )
    call = stub.Generate(request, timeout=PATIENCE_S)
    try:
        async for message in call:
            if message.WhichOneof("event") == "delta":
                arrived(stream, message.delta.token_count)
    finally:
        call.cancel()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
