"""What breaks on purpose, under load, in a mesh of real processes: who notices, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc
import psutil
import pytest

from mesh.common.v1 import common_pb2
from mesh.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from mesh.router.v1 import router_service_pb2 as pb
from mesh.router.v1 import router_service_pb2_grpc
from meshctl.local.ports import free_ports
from meshkit.telemetry import names
from tests.support.local_mesh import LocalMesh

CALLER_COUNT = 6
SEEN_WITHIN_S = 5.0
BACK_WITHIN_S = 60.0
STREAM_COUNT = 200


@dataclass(slots=True)
class Load:
    """Callers that ask one question after the other; what came of each."""

    router: str
    answered_count: int = 0
    failures: list[str] = field(default_factory=list)
    statuses: list[common_pb2.CacheStatus] = field(default_factory=list)

    async def ask(self, channel: grpc.aio.Channel, text: str) -> None:
        stub = router_service_pb2_grpc.RouterServiceStub(channel)
        request = pb.GenerateRequest(
            prompt={"text": text}, sampling={"temperature": 0}, stopping={"max_tokens": 8, "ignore_eos": True}
        )
        try:
            reply = await stub.GenerateOnce(request, timeout=30)
        except grpc.aio.AioRpcError as problem:
            self.failures.append(f"{problem.code().name}: {problem.details()}")
            return
        self.answered_count += 1
        self.statuses.append(reply.accepted.cache_status)

    async def more(self, count: int) -> None:
        """Return when this many more requests have been answered."""
        wanted = self.answered_count + count
        async with asyncio.timeout(60):
            while self.answered_count < wanted:
                assert not self.failures, self.failures
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def load_on(router: str) -> AsyncIterator[Load]:
    """Callers at work while the block lasts."""
    load = Load(router)
    stopped = asyncio.Event()

    async def caller(name: str) -> None:
        async with grpc.aio.insecure_channel(router) as channel:
            number = 0
            while not stopped.is_set():
                number += 1
                await load.ask(channel, f"caller {name} asks question {number}")

    async with asyncio.TaskGroup() as tasks:
        for name in range(CALLER_COUNT):
            tasks.create_task(caller(str(name)))
        try:
            yield load
        finally:
            stopped.set()


@pytest.fixture
def metrics_port() -> int:
    return free_ports().router


@pytest.fixture
def mesh(tmp_path: Path, tiny_model: Path, metrics_port: int) -> Iterator[LocalMesh]:
    """A mesh of a tiny model whose router shows its metrics."""
    environment = {"MESH_ROUTER_SERVER__METRICS_PORT": str(metrics_port)}
    mesh = LocalMesh(tmp_path / "run", str(tiny_model), environment=environment)
    mesh.up()
    yield mesh
    mesh.down()
    assert mesh.processes() == []


async def eventually(holds: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Seconds until it held; fails where it did not in time."""
    began_at = time.monotonic()
    while not await holds():
        assert time.monotonic() - began_at < within_s, f"not within {within_s:g} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - began_at


async def test_cache_compressor_and_consul_frozen_then_killed_under_load_fail_no_request(mesh: LocalMesh) -> None:
    pids = [mesh.pid_of(name) for name in ("cache", "compressor", "consul")]
    async with load_on(mesh.router) as load:
        await load.more(20)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await load.more(40)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        await load.more(20)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            await load.more(40)
    assert load.failures == []
    assert common_pb2.CACHE_STATUS_LEAD in load.statuses
    assert load.statuses[-1] == common_pb2.CACHE_STATUS_UNAVAILABLE


async def test_abandoned_streams_and_a_killed_rank_leave_a_clean_serving_engine(
    mesh: LocalMesh, metrics_port: int
) -> None:
    async with grpc.aio.insecure_channel(mesh.router) as channel, grpc.aio.insecure_channel(mesh.engine) as to_engine:
        stub = router_service_pb2_grpc.RouterServiceStub(channel)
        engine = inference_service_pb2_grpc.InferenceServiceStub(to_engine)
        await abandon_many(metrics_port, stub, engine)
        await lose_rank_1(mesh, stub)
        assert await is_idle(engine)


async def abandon_many(
    metrics_port: int,
    stub: router_service_pb2_grpc.RouterServiceAsyncStub,
    engine: inference_service_pb2_grpc.InferenceServiceAsyncStub,
) -> None:
    """200 streams opened and dropped: no sequence, no block is left, and the next caller is served."""
    streams = [stub.Generate(endless(f"stream {number}"), timeout=300) for number in range(STREAM_COUNT)]
    for stream in streams:
        assert (await stream.read()).WhichOneof("event") == "accepted"
    # The engine tells its load after each step, so what it has just taken may not be in it yet.
    await eventually(lambda: is_overfull(engine), 10)
    for stream in streams:
        stream.cancel()
    await eventually(lambda: is_idle(engine), 10)
    await eventually(lambda: has_no_call(metrics_port), 10)
    assert await is_answered(stub)


async def lose_rank_1(mesh: LocalMesh, stub: router_service_pb2_grpc.RouterServiceAsyncStub) -> None:
    """kill -9 of rank 1: its streams end with UNAVAILABLE, and the instance serves again by itself."""
    rank_1 = psutil.Process(mesh.pid_of("inference")).children()[0].children()[0]
    streams = [stub.Generate(endless(f"stream {number}"), timeout=120) for number in range(4)]
    for stream in streams:
        while (await stream.read()).WhichOneof("event") != "delta":
            pass
    rank_1.kill()
    killed_at = time.monotonic()
    codes = [await code_of(stream) for stream in streams]
    assert codes == [grpc.StatusCode.UNAVAILABLE] * len(streams)
    assert time.monotonic() - killed_at < SEEN_WITHIN_S
    await eventually(lambda: is_answered(stub), BACK_WITHIN_S)
    assert time.monotonic() - killed_at < BACK_WITHIN_S


def endless(text: str) -> pb.GenerateRequest:
    """A request that runs until the context is full."""
    return pb.GenerateRequest(
        prompt={"text": text}, sampling={"temperature": 1}, stopping={"max_tokens": 450, "ignore_eos": True}
    )


async def code_of(stream: grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateEvent]) -> grpc.StatusCode:
    """The status that a stream ends with."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        while (await stream.read()) is not grpc.aio.EOF:
            pass
    return await stream.code()


async def is_answered(stub: router_service_pb2_grpc.RouterServiceAsyncStub) -> bool:
    request = pb.GenerateRequest(prompt={"text": "are you there?"}, stopping={"max_tokens": 2})
    with contextlib.suppress(grpc.aio.AioRpcError):
        return bool((await stub.GenerateOnce(request, timeout=10)).finished.usage.completion_tokens)
    return False


async def load_of(engine: inference_service_pb2_grpc.InferenceServiceAsyncStub) -> inference_service_pb2.Load:
    return (await engine.GetLoad(inference_service_pb2.GetLoadRequest(), timeout=5)).load


async def is_overfull(engine: inference_service_pb2_grpc.InferenceServiceAsyncStub) -> bool:
    """Whether sequences run and others wait."""
    load = await load_of(engine)
    return load.waiting_count > 0 and load.kv_used_tokens > 0


async def is_idle(engine: inference_service_pb2_grpc.InferenceServiceAsyncStub) -> bool:
    load = await load_of(engine)
    return load.running_count == load.waiting_count == load.kv_used_tokens == 0


async def has_no_call(metrics_port: int) -> bool:
    """Whether the router serves nothing, by its own count of RPCs in progress."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{metrics_port}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return all(float(line.split()[-1]) == 0 for line in lines if line.startswith(f"{names.METRIC_RPC_ACTIVE}{{"))
