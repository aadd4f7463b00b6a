"""grpc.health.v1 for one service: NOT_SERVING until it is really ready, and again from the first moment of a drain."""

from __future__ import annotations

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """Status of the service by its full name, and of the whole server under the empty name."""

    def __init__(self, grpc_name: str) -> None:
        self._grpc_name = grpc_name
        self.servicer = health_aio.HealthServicer()
        self.is_serving = False

    async def set_serving(self, is_serving: bool) -> None:
        """Say whether calls will be served."""
        self.is_serving = is_serving
        status = _SERVING if is_serving else _NOT_SERVING
        for name in ("", self._grpc_name):
            await self.servicer.set(name, status)
