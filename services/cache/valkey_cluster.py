"""Which server holds a key: the one there is, or of a cluster the one that has the key's slot.

Each server of a cluster has its own connections and its own breaker, so that one that is gone costs its own keys only.
(The library's cluster client loses a connection for good with each call that is cancelled while it sends, which is how
our time-outs end calls, so only its hash function is used.) The map of slots comes from any server that answers: at the
start, every few seconds, and as soon as a server says that a key is elsewhere; until then such a key is a miss.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import valkey.asyncio as valkey_client
from valkey.crc import key_slot

from meshkit.clock import Clock
from services.cache.settings import L2Settings
from services.cache.tier import TierUnavailable
from services.cache.valkey_node import Refused, ValkeyNode

_REFRESH_S = 2.0
_SLOT_COUNT = 16384
_ELSEWHERE = ("MOVED", "ASK", "CLUSTERDOWN")
"""How errors begin that mean that another server has the key."""

T = TypeVar("T")


class Servers(Protocol):
    """Where keys lie."""

    def of(self, key: bytes) -> ValkeyNode:
        """The server of a key. Raises TierUnavailable."""
        ...

    def all(self) -> Sequence[ValkeyNode]:
        """Every server that holds keys. Raises TierUnavailable while they are not known."""
        ...

    def moved(self) -> None:
        """A server said that a key is elsewhere."""
        ...

    async def watch(self) -> None:
        """Keep in touch with them. Runs until cancelled."""
        ...

    async def close(self) -> None: ...


def servers_of(settings: L2Settings, clock: Clock) -> Servers:
    """The one server, or the cluster."""
    return Cluster(settings, clock) if settings.cluster else OneServer(settings, clock)


async def ask(
    servers: Servers, key: bytes, command: Callable[[valkey_client.Valkey], Awaitable[T]], timeout_s: float
) -> T:
    """The reply of the server that has the key. Raises TierUnavailable; Refused for an answer that is an error."""
    try:
        return await servers.of(key).call(command, timeout_s)
    except Refused as refusal:
        if str(refusal).startswith(_ELSEWHERE):
            servers.moved()
        raise


class OneServer:
    """No cluster: one server holds all."""

    def __init__(self, settings: L2Settings, clock: Clock) -> None:
        self._node = ValkeyNode(settings, clock)

    def of(self, key: bytes) -> ValkeyNode:
        return self._node

    def all(self) -> Sequence[ValkeyNode]:
        return [self._node]

    def moved(self) -> None:
        """It has nowhere to move to."""

    async def watch(self) -> None:
        await self._node.watch()

    async def close(self) -> None:
        await self._node.close()


class Cluster:
    """The primaries of a cluster."""

    def __init__(self, settings: L2Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        first = urlsplit(settings.url).netloc.rpartition("@")[2]
        self._seeds = [ValkeyNode(settings, clock, address) for address in (first, *settings.more_nodes)]
        self._nodes: dict[str, ValkeyNode] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._slots: list[ValkeyNode | None] = [None] * _SLOT_COUNT
        self._is_outdated = asyncio.Event()

    def of(self, key: bytes) -> ValkeyNode:
        node = self._slots[key_slot(key)]
        if node is None:
            raise TierUnavailable("no server has the key's slot")
        return node

    def all(self) -> Sequence[ValkeyNode]:
        if not self._nodes:
            raise TierUnavailable("no server of the cluster is known")
        return list(self._nodes.values())

    def moved(self) -> None:
        self._is_outdated.set()

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._is_outdated.clear()
                slots = await self._ask_for_slots()
                if slots is not None:
                    self._adopt(slots, tasks)
                await self._clock.sleep(self._settings.first_rest_s)
                if slots is not None:
                    await self._until_outdated(_REFRESH_S)

    async def close(self) -> None:
        for node in (*self._nodes.values(), *self._seeds):
            await node.close()

    async def _until_outdated(self, longest_s: float) -> None:
        resting = asyncio.ensure_future(self._clock.sleep(longest_s))
        told = asyncio.ensure_future(self._is_outdated.wait())
        try:
            await asyncio.wait((resting, told), return_when=asyncio.FIRST_COMPLETED)
        finally:
            resting.cancel()
            told.cancel()

    async def _ask_for_slots(self) -> Mapping[str, list[range]] | None:
        """What the first server that answers says: address to slots. None where none answers."""
        known = [node for node in self._nodes.values() if node.is_available]
        for node in (*known, *self._seeds):
            try:
                rows = await node.ask_past_breaker("CLUSTER SLOTS")
                return _by_address(rows, asked_host=node.address.rpartition(":")[0])
            except TierUnavailable:
                continue
        return None

    def _adopt(self, slots: Mapping[str, Iterable[range]], tasks: asyncio.TaskGroup) -> None:
        for address in self._nodes.keys() - slots.keys():
            self._watching.pop(address).cancel()
            tasks.create_task(self._nodes.pop(address).close())
        for address in slots.keys() - self._nodes.keys():
            node = self._nodes[address] = ValkeyNode(self._settings, self._clock, address)
            self._watching[address] = tasks.create_task(node.watch())
        found: list[ValkeyNode | None] = [None] * _SLOT_COUNT
        for address, ranges in slots.items():
            for span in ranges:
                found[span.start : span.stop] = [self._nodes[address]] * len(span)
        self._slots = found


def _by_address(rows: Any, *, asked_host: str) -> Mapping[str, list[range]]:
    """Rows are [first slot, last slot, [host, port, ...] of the primary, replicas ...]; no host means the one asked."""
    found: dict[str, list[range]] = {}
    for first, last, (host, port, *_), *_ in rows:
        name = host.decode() if isinstance(host, bytes) else host
        found.setdefault(f"{name or asked_host}:{port}", []).append(range(first, last + 1))
    return found
