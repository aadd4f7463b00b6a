"""Which router is asked: the next in turn for a new question, the one that decided for what concerns its decision."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Sequence

import grpc

from mesh.router.v1 import router_service_pb2_grpc
from meshkit.channels import ChannelPool
from meshkit.clock import Clock
from meshkit.errors import BackendDown
from meshkit.picker import Picker
from meshkit.registry.base import Instance, InstanceSet

_DISCOVERY_TIMEOUT_S = 10.0
_FIRST_ANSWER_WAIT_S = 1.0
"""How long a start on last-known routers waits for Consul's own word."""
_REMEMBERED_DECISIONS = 4096


class Routers:
    """The routers of one client, and who took which decision."""

    def __init__(self, known: InstanceSet, clock: Clock, credentials: grpc.ChannelCredentials | None) -> None:
        self._known = known
        self._picker = Picker(known, clock)
        self._channels = ChannelPool(credentials)
        self._decided: OrderedDict[str, Instance] = OrderedDict()
        self._has_waited = False
        self.succeeded = self._picker.succeeded
        self.failed = self._picker.failed

    async def pick(self, tried: set[str], timeout_s: float) -> Instance:
        """The next router in turn, an untried one if there is one; waits for the first one to be discovered."""
        await self._discovered(timeout_s)
        untried = {instance.id for instance in self._known.current} - tried
        return self._picker.pick(exclude=tried if untried else ())

    async def who_may_know(self, decision_id: str, timeout_s: float) -> Sequence[Instance]:
        """The router that took a decision; every router where that is not remembered."""
        if decision_id in self._decided:
            return (self._decided[decision_id],)
        await self._discovered(timeout_s)
        return self._known.current

    def remember(self, decision_id: str, instance: Instance) -> None:
        """This router took it. The oldest are forgotten first."""
        self._decided[decision_id] = instance
        if len(self._decided) > _REMEMBERED_DECISIONS:
            self._decided.popitem(last=False)

    def stub(self, instance: Instance) -> router_service_pb2_grpc.RouterServiceAsyncStub:
        return self._channels.stub(router_service_pb2_grpc.RouterServiceStub, instance.address)

    async def close(self) -> None:
        await self._channels.close()

    async def _discovered(self, timeout_s: float) -> None:
        if self._known.is_stale and not self._has_waited:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(timeout_s, _FIRST_ANSWER_WAIT_S)):
                    await self._known.fresh()
            self._has_waited = True
        try:
            async with asyncio.timeout(min(timeout_s, _DISCOVERY_TIMEOUT_S)):
                await self._known.non_empty()
        except TimeoutError:
            raise BackendDown("no router is known to Consul; is the mesh up (make status)?") from None
