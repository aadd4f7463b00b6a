"""More instances of a service of a running local mesh: the same command and settings, on a port of their own."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.free_port import free_port
from tests.support.local_mesh import LocalMesh

READY_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One more instance."""

    address: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def another(mesh: LocalMesh, service: str) -> Iterator[Instance]:
    """Ready when entered, gone when left, whatever was done to it meanwhile. `service`: router, cache or compressor."""
    port = free_port()
    first = psutil.Process(mesh.pid_of(service))
    environment = {**first.environ(), f"MESH_{service.upper()}_SERVER__PORT": str(port)}
    process = subprocess.Popen(first.cmdline(), env=environment, cwd=first.cwd(), stdout=subprocess.DEVNULL)
    try:
        _wait_until_serving(port)
        yield Instance(address=f"127.0.0.1:{port}", process=process)
    finally:
        process.kill()
        process.wait()


def _wait_until_serving(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        for response in stub.Watch(request, timeout=READY_WITHIN_S, wait_for_ready=True):
            if response.status == health_pb2.HealthCheckResponse.SERVING:
                return
