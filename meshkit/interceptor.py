"""Around every RPC that a service answers: parse safely, identify, trace, measure, end in exactly one status.

One wrapper rather than a chain of interceptors: each link of a chain costs a task switch on every call, and the order
of these steps never changes. The wrapper takes and returns bytes, because whatever goes wrong in gRPC's own
(de)serialising reaches the caller as UNKNOWN with our own text. Health, reflection and channelz are left as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from meshkit.errors import NotReady
from meshkit.parsing import parser
from meshkit.rpc_metrics import RpcMetrics
from meshkit.served_call import CallSite, ServedCall

_INFRASTRUCTURE = "/grpc."
_Handler = grpc.RpcMethodHandler


async def _refuse(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """No contract has such a method; one that gains it must be wrapped too, or it would be served unidentified."""
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "methods that take a stream of requests are not served")


_REFUSED: _Handler[Any, Any] = grpc.stream_stream_rpc_method_handler(_refuse)


class MeshInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each method once and keeps the result. Refuses calls with NotReady until `open`."""

    def __init__(self, site: CallSite, metrics: RpcMetrics, *, max_message_bytes: int) -> None:
        self._site = site
        self._metrics = metrics
        self._max_message_bytes = max_message_bytes
        self._wrapped: dict[str, _Handler[Any, Any]] = {}
        self._is_open = False

    def open(self) -> None:
        """The service has loaded: let calls in."""
        self._is_open = True

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler[Any, Any] | None:
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(_INFRASTRUCTURE):
            return handler
        if handler.request_streaming:
            return _REFUSED
        wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: _Handler[Any, Any]) -> _Handler[Any, Any]:
        parse = parser(handler.request_deserializer, self._max_message_bytes)
        serialize: Callable[[Any], bytes] = handler.response_serializer or bytes
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler.unary_stream, parse, serialize))
        return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary, parse, serialize))

    def _unary(
        self, method: str, behaviour: Any, parse: Callable[[bytes], Any], serialize: Callable[[Any], bytes]
    ) -> Callable[..., Awaitable[bytes]]:
        site, metrics = self._site.of(method), self._metrics.of(method)

        async def serve(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            call = ServedCall(site, metrics, context)
            try:
                call.open()
                self._check_open()
                response = serialize(await behaviour(parse(data), context))
            except BaseException as problem:
                await call.fail(problem)
                raise
            # Once gRPC has the reply and waits for the network: the caller does not wait for our own accounts.
            asyncio.get_running_loop().call_soon(call.succeed)
            return response

        return serve

    def _stream(
        self, method: str, behaviour: Any, parse: Callable[[bytes], Any], serialize: Callable[[Any], bytes]
    ) -> Callable[..., AsyncIterator[bytes]]:
        site, metrics = self._site.of(method), self._metrics.of(method)

        async def serve(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
            call = ServedCall(site, metrics, context)
            try:
                call.open()
                self._check_open()
                # Closed here and now: the handler's `finally` must not wait for the garbage collector.
                async with contextlib.aclosing(behaviour(parse(data), context)) as responses:
                    async for response in responses:
                        yield serialize(response)
            except BaseException as problem:
                await call.fail(problem)
                raise
            call.succeed()

        return serve

    def _check_open(self) -> None:
        if not self._is_open:
            raise NotReady("the service is loading; ask again when its health says SERVING")
