"""Instances through a Consul agent: registered again whenever it forgets, watched by blocking queries, last known good.

How the agent is asked: `consul_http`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine

from meshkit.clock import Clock
from meshkit.registry.base import InstanceSet, Registration
from meshkit.registry.consul_http import ConsulAway, ConsulHttp
from meshkit.registry.snapshot import SnapshotStore
from meshkit.telemetry import logs, names

_CONFIRM_EVERY_S = 5.0
_RETRY_EVERY_S = 1.0
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0)
# An answer without an index can't be waited upon; asking on at once would spin.
_PAUSE_WITHOUT_INDEX_S = 1.0

_log = logs.get_logger(__name__)


class ConsulRegistry:
    """A registry behind one local agent. Create it inside the running event loop."""

    def __init__(
        self, *, url: str, token: str, clock: Clock, snapshots: SnapshotStore, check_interval_s: float
    ) -> None:
        self._http = ConsulHttp(url=url, token=token, check_interval_s=check_interval_s)
        self._clock = clock
        self._snapshots = snapshots
        self._sets: dict[str, InstanceSet] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._registration: Registration | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def register(self, registration: Registration) -> None:
        """Announce an instance. While the agent is away this returns within seconds and goes on trying."""
        self._registration = registration
        was_told = False
        with contextlib.suppress(ConsulAway):
            await self._http.put(registration)
            was_told = True
        self._keeper = _started(self._keep_registered(registration, was_told))

    async def deregister(self) -> None:
        registration, self._registration = self._registration, None
        if registration is None:
            return
        # Ended first: its own announcement must not overtake the withdrawal.
        await _ended(self._keeper)
        with contextlib.suppress(ConsulAway):
            await self._http.drop(registration.id)

    def watch(self, service: str) -> InstanceSet:
        if service not in self._sets:
            instances = InstanceSet(service)
            instances.replace(self._snapshots.load(service))
            instances.mark_stale()
            self._sets[service] = instances
            self._watches.add(_started(self._follow(instances)))
        return self._sets[service]

    async def close(self) -> None:
        await _ended(self._keeper, *self._watches)
        await self._http.close()

    async def _keep_registered(self, registration: Registration, was_told: bool) -> None:
        """An agent that restarted without its data, or reaped the service, has forgotten it: tell it again.

        Until it was told once, an entry with this id is that of the process before, with its metadata.
        """
        is_answering = was_told
        while True:
            await self._clock.sleep(_CONFIRM_EVERY_S if is_answering else _RETRY_EVERY_S)
            try:
                if not was_told or registration.id not in await self._http.own_ids():
                    await self._http.put(registration)
                    was_told = True
                    _log.info(names.LOG_REGISTERED_AGAIN, instance=registration.id)
                is_answering = True
            except ConsulAway:
                is_answering = False

    async def _follow(self, instances: InstanceSet) -> None:
        index: str | None = None
        failure_count = 0
        while True:
            try:
                index, found = await self._http.instances(instances.service, index)
            except ConsulAway as problem:
                if failure_count == 0:
                    _log.warning(names.LOG_REGISTRY_AWAY, watched=instances.service, problem=str(problem))
                instances.mark_stale()
                index = None
                await self._clock.sleep(_BACKOFF_S[min(failure_count, len(_BACKOFF_S) - 1)])
                failure_count += 1
                continue
            failure_count = 0
            instances.replace(found)
            if found:
                self._snapshots.save(instances.service, found)
            if index is None:
                await self._clock.sleep(_PAUSE_WITHOUT_INDEX_S)


def _started(work: Coroutine[object, object, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work)


async def _ended(*tasks: asyncio.Task[None] | None) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
