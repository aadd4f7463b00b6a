"""A service as a process: its command line, its drain, and its end."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time

import grpc
import pytest

from mesh.cache.v1 import cache_service_pb2 as cache
from mesh.cache.v1 import cache_service_pb2_grpc as cache_grpc
from meshkit.clock import SystemClock
from meshkit.picker import Picker
from meshkit.registry.file import FileRegistry
from tests.support.probe_service import asked_for

PATIENCE_S = 15.0
AT_ONCE_S = 1.0


def environment(tmp_path, **settings: str) -> dict[str, str]:
    own = {f"MESH_PROBE_{key}": value for key, value in settings.items()}
    registry = {"MESH_PROBE_REGISTRY__KIND": "file", "MESH_PROBE_REGISTRY__FILE_PATH": str(tmp_path / "registry")}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MESH_PROBE_")}
    return {**kept, **registry, **own}


@contextlib.asynccontextmanager
async def probe(tmp_path, *arguments: str, **settings: str):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.probe_process",
        *arguments,
        env=environment(tmp_path, **settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def watched(tmp_path):
    registry = FileRegistry(tmp_path / "registry", SystemClock())
    yield registry.watch("mesh-cache")
    await registry.close()


async def ended(process, within_s: float = PATIENCE_S) -> tuple[int, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), within_s)
    return process.returncode, out.decode(), err.decode()


async def until_logged(process, event: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while event.encode() not in await process.stderr.readline():
            pass


async def test_check_prints_every_setting_with_its_source_and_ends(tmp_path):
    async with probe(tmp_path, "--check", SERVER__PORT="7") as process:
        status, out, err = await ended(process)
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert (status, err) == (0, "")
    assert "server.port = 7 # MESH_PROBE_SERVER__PORT" in rows
    assert "probe.loading_s = 0.0 # default" in rows


@pytest.mark.parametrize("settings", [{"SERVER__PROT": "7"}, {"SERVER__PORT": "many"}, {"REGISTRY__KIND": "etcd"}])
async def test_wrong_settings_end_with_status_2_and_one_sentence(tmp_path, settings):
    async with probe(tmp_path, **settings) as process:
        status, _, err = await ended(process)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert next(iter(settings)) in err


async def test_a_taken_port_ends_with_status_3_and_one_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        async with probe(tmp_path, SERVER__PORT=port) as process:
            status, _, err = await ended(process)
    assert status == 3
    said = [line for line in err.splitlines() if not line.startswith("{")]
    assert len(said) == 1, err
    assert port in said[0]
    assert "MESH_PROBE_SERVER__PORT" in said[0]


async def test_a_service_that_cannot_load_ends_with_status_4_and_its_reason(tmp_path):
    async with probe(tmp_path, PROBE__FAILS="yes") as process:
        status, _, err = await ended(process)
    said = [line for line in err.splitlines() if not line.startswith("{")]
    assert (status, said) == (4, ["error: no model of this name: tiny"])


async def test_on_the_first_sigterm_a_stream_in_flight_finishes_while_new_calls_go_elsewhere(tmp_path):
    async with (
        probe(tmp_path) as leaves,
        probe(tmp_path),
        watched(tmp_path) as instances,
        contextlib.AsyncExitStack() as channels,
    ):
        async with asyncio.timeout(PATIENCE_S):
            while len(instances.current) < 2:
                await instances.changed()
        leaving = next(i for i in instances.current if i.id.endswith(f"pid{leaves.pid}"))
        stubs = {
            i.id: cache_grpc.CacheServiceStub(await channels.enter_async_context(grpc.aio.insecure_channel(i.address)))
            for i in instances.current
        }
        stream = aiter(stubs[leaving.id].Follow(cache.FollowRequest(from_event=30)))
        await anext(stream)
        leaves.send_signal(signal.SIGTERM)
        async with asyncio.timeout(AT_ONCE_S):
            while leaving in instances.current:
                await instances.changed()
        picker = Picker(instances, SystemClock())
        for _ in range(10):
            picked = picker.pick()
            assert picked != leaving
            await stubs[picked.id].Lookup(asked_for("x"), timeout=5)
        assert len([message async for message in stream]) == 29
        assert (await ended(leaves))[0] == 0


async def test_a_drain_without_calls_in_flight_is_quick(tmp_path):
    async with probe(tmp_path) as process:
        await until_logged(process, "service.serving")
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status, _, err = await ended(process)
    assert status == 0
    assert time.monotonic() - begun < 2
    assert "Traceback" not in err


async def test_a_drain_ends_at_its_bound(tmp_path):
    async with probe(tmp_path, SERVER__DRAIN_TIMEOUT_S="0.2", SERVER__DRAIN_WAIT_S="0") as process:
        async with watched(tmp_path) as instances:
            (instance,) = await asyncio.wait_for(instances.non_empty(), PATIENCE_S)
        async with grpc.aio.insecure_channel(instance.address) as channel:
            stream = cache_grpc.CacheServiceStub(channel).Follow(cache.FollowRequest(from_event=1000))
            await stream.read()
            process.send_signal(signal.SIGTERM)
            with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
                while True:
                    assert await asyncio.wait_for(stream.read(), 5) is not grpc.aio.EOF
            status, _, err = await ended(process)
    assert status == 0
    assert "Traceback" not in err


async def test_the_second_sigterm_ends_the_process_at_once(tmp_path):
    async with probe(tmp_path) as process:
        async with watched(tmp_path) as instances:
            (instance,) = await asyncio.wait_for(instances.non_empty(), PATIENCE_S)
        async with grpc.aio.insecure_channel(instance.address) as channel:
            stream = cache_grpc.CacheServiceStub(channel).Follow(cache.FollowRequest(from_event=1000))
            await stream.read()
            process.send_signal(signal.SIGTERM)
            await until_logged(process, "service.draining")
            process.send_signal(signal.SIGTERM)
            status, _, _ = await ended(process, AT_ONCE_S)
    assert status == 128 + signal.SIGTERM


async def test_a_sigterm_while_loading_ends_the_process_at_once(tmp_path):
    async with probe(tmp_path, PROBE__LOADING_S="600") as process:
        await until_logged(process, "service.started")
        process.send_signal(signal.SIGTERM)
        status, _, err = await ended(process, 3)
    assert status == 0
    assert "Traceback" not in err
    assert not list((tmp_path / "registry").glob("*"))
