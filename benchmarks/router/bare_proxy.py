"""The least that a hop can cost: a grpc.aio server that passes an engine's stream on as bytes and does nothing else.

The peer of the router in `overhead`: what is measured above it is the mesh's own doing, below it lies gRPC for Python.
Run as `python -m benchmarks.router.bare_proxy ENGINE`; prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

METHOD = "/mesh.inference.v1.InferenceService/Generate"


class _Passing(grpc.GenericRpcHandler):
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._generate = channel.unary_stream(METHOD, request_serializer=None, response_deserializer=None)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_stream_rpc_method_handler(self._pass)

    async def _pass(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        async for message in self._generate(request, timeout=context.time_remaining()):
            yield message


@contextlib.contextmanager
def bare_proxy(engine: str) -> Iterator[str]:
    """Its `host:port`, for a block."""
    command = [sys.executable, "-m", "benchmarks.router.bare_proxy", engine]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


async def _serve(engine: str) -> None:
    async with grpc.aio.insecure_channel(engine) as channel:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((_Passing(channel),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
