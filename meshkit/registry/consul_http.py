"""The four requests to a Consul agent that the mesh makes, and the one error that any of them may raise.

py-consul does the HTTP; its `health.service` can't ask for cached reads, so the watch calls the endpoint itself.
Only fields that Consul 1.8 and later both understand are sent, in CamelCase.
Source: https://developer.hashicorp.com/consul/api-docs/features/blocking
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import consul
import consul.aio
from consul.callback import CB

from meshkit.registry.base import Instance, Registration
from meshkit.registry.health_row import instance_of

T = TypeVar("T")

WAIT_S = 30
_REQUEST_TIMEOUT_S = 5.0
_DROP_TIMEOUT_S = 2.0
_FORGET_AFTER_S = 60
# From an agent that is gone, overloaded or without a leader, and from something else that answers on its port.
_FAILURES = (
    OSError,
    TimeoutError,
    consul.ConsulException,
    aiohttp.ClientError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
)


class ConsulAway(Exception):
    """The agent can't be reached, or its answer makes no sense."""


class ConsulHttp:
    """One agent. Create it inside the running event loop. Every method is bounded in time and raises ConsulAway."""

    def __init__(self, *, url: str, token: str, check_interval_s: float) -> None:
        parts = urlsplit(url)
        scheme = parts.scheme or "http"
        self._consul = consul.aio.Consul(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or (443 if scheme == "https" else 8500),
            scheme=scheme,
            token=token or None,
            connections_timeout=_REQUEST_TIMEOUT_S,
            # Loading the trusted authorities takes 50 ms and some MB.
            verify=scheme == "https",
        )
        self._check_interval_s = check_interval_s

    async def put(self, registration: Registration) -> None:
        """Announce an instance with a gRPC health check."""
        await _or_away(
            self._consul.agent.service.register(
                registration.service,
                service_id=registration.id,
                address=registration.host,
                port=registration.port,
                meta=dict(registration.metadata),
                check=_check_of(registration, self._check_interval_s),
            )
        )

    async def drop(self, instance_id: str) -> None:
        """Withdraw an instance. It is leaving, so it does not wait long."""
        await _or_away(asyncio.wait_for(self._consul.agent.service.deregister(instance_id), _DROP_TIMEOUT_S))

    async def own_ids(self) -> Collection[str]:
        """Ids of what is registered at this agent."""
        found: Collection[str] = await _or_away(self._consul.agent.services())
        return found

    async def instances(self, service: str, index: str | None) -> tuple[str | None, tuple[Instance, ...]]:
        """The instances of a service and the index of this answer; with an index, once they differ from that answer.

        Answered by the agent's own cache, so that a lost leader does not matter.
        """
        params: list[tuple[str, Any]] = [("cached", "")]
        if index is not None:
            params += [("index", index), ("wait", f"{WAIT_S}s")]
        decode: Callable[..., Any] = CB.json(index=True)
        request = self._consul.http.get(
            decode,
            f"/v1/health/service/{service}",
            params=params,
            headers=self._consul.prepare_headers(None),
            # Consul adds up to a sixteenth of the wait as jitter.
            connections_timeout=_REQUEST_TIMEOUT_S + (WAIT_S * 17 / 16 if index is not None else 0),
        )
        return await _or_away(_parsed(service, request))

    async def close(self) -> None:
        """Close the connections."""
        await self._consul.http.close()


async def _or_away(request: Awaitable[T]) -> T:
    try:
        return await request
    except _FAILURES as problem:
        raise ConsulAway(f"{type(problem).__name__}: {problem}") from problem


async def _parsed(service: str, request: Awaitable[Any]) -> tuple[str | None, tuple[Instance, ...]]:
    index, rows = await request
    found = sorted((instance_of(service, row) for row in rows), key=lambda instance: instance.id)
    return (None if index in (None, "0") else str(index)), tuple(found)


def _check_of(registration: Registration, interval_s: float) -> dict[str, Any]:
    return {
        "GRPC": f"{registration.host}:{registration.port}/{registration.grpc_name}",
        "GRPCUseTLS": registration.uses_tls,
        "Interval": f"{interval_s:g}s",
        "Timeout": "2s",
        "Status": "passing" if registration.is_serving() else "critical",
        "DeregisterCriticalServiceAfter": f"{_FORGET_AFTER_S}s",
    }
