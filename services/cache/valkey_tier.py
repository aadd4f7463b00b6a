"""The second tier: Valkey or Redis, one server or a cluster, which all cache instances share.

Look-ups end after a hard time-out. A reply that belongs to another question, which a cancelled call could leave behind
on its connection, fails the entry's checksum.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import valkey.asyncio as valkey_client

from meshkit.clock import Clock
from services.cache.entry import VERSION, Entry, Unreadable, decode, encode
from services.cache.lifetime import TierLifetime
from services.cache.settings import L2Settings
from services.cache.tier import UNKNOWN, Swept, TierSize, TierUnavailable
from services.cache.valkey_cluster import ask, servers_of
from services.cache.valkey_node import ValkeyNode

KEY_PREFIX = b"mesh:cache:%d:" % VERSION
"""Instances of another version, such as during a roll-out, do not meet in one server."""
_KEYS_A_SCAN = 500

T = TypeVar("T")


class ValkeyTier:
    """Entries on shared servers. `watch` must run for them to be asked at all: it starts as unavailable."""

    def __init__(self, settings: L2Settings, lifetime: TierLifetime, clock: Clock) -> None:
        self._settings = settings
        self._lifetime = lifetime
        self._clock = clock
        self._servers = servers_of(settings, clock)

    @property
    def is_available(self) -> bool:
        """Whether look-ups are sent, for every key."""
        try:
            return all(node.is_available for node in self._servers.all())
        except TierUnavailable:
            return False

    async def watch(self) -> None:
        """Connect, and connect again whenever a server went away. Runs until cancelled."""
        await self._servers.watch()

    async def close(self) -> None:
        await self._servers.close()

    async def get(self, key: bytes) -> Entry | None:
        data = await self._call(key, lambda client: client.get(KEY_PREFIX + key), self._settings.timeout_s)
        if data is None:
            return None
        try:
            return decode(key, data)
        except Unreadable:
            with contextlib.suppress(TierUnavailable):
                await self._delete(key, self._settings.timeout_s)
            raise

    async def put(self, key: bytes, entry: Entry) -> None:
        lives_ms = int(self._lifetime.seconds(entry.expires_at - self._clock.wall()) * 1000)
        if lives_ms > 0:
            data = encode(key, entry)
            timeout_s = self._settings.write_timeout_s
            await self._call(key, lambda client: client.set(KEY_PREFIX + key, data, px=lives_ms), timeout_s)

    async def delete(self, key: bytes) -> None:
        await self._delete(key, self._settings.timeout_s)

    async def size(self) -> TierSize:
        """Of the whole servers, whoever filled them."""
        sizes = [await self._size(node) for node in self._servers.all()]
        return TierSize(
            entry_count=sum(size.entry_count for size in sizes),
            size_bytes=sum(size.size_bytes for size in sizes),
            budget_bytes=sum(size.budget_bytes for size in sizes),
            eviction_count=sum(size.eviction_count for size in sizes),
        )

    async def sweep(self, prefix: bytes, matches: Callable[[bytes, Entry], bool], *, apply: bool) -> Swept:
        entry_count = size_bytes = 0
        for node in self._servers.all():
            async for key in self._keys(node, prefix):
                entry, is_unreadable = await self._peek(key)
                matched = entry is not None and matches(key, entry)
                if entry is not None and matched:
                    entry_count += 1
                    size_bytes += entry.size_bytes
                if apply and (matched or is_unreadable):
                    await self._delete(key, self._settings.write_timeout_s)
        return Swept(entry_count=entry_count, size_bytes=size_bytes)

    async def _keys(self, node: ValkeyNode, prefix: bytes) -> AsyncIterator[bytes]:
        """Storage keys under the prefix on one server, each once."""
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", KEY_PREFIX + prefix) + b"*"
        seen: set[bytes] = set()
        cursor = 0
        while True:
            scan = _scan(cursor, pattern)
            cursor, names = await node.call(scan, self._settings.write_timeout_s)
            for key in {name.removeprefix(KEY_PREFIX) for name in names} - seen:
                seen.add(key)
                yield key
            if cursor == 0:
                return

    async def _peek(self, key: bytes) -> tuple[Entry | None, bool]:
        """The entry, if there is a readable one, and whether there is an unreadable one."""
        data = await self._call(key, lambda client: client.get(KEY_PREFIX + key), self._settings.write_timeout_s)
        try:
            return (None, False) if data is None else (decode(key, data), False)
        except Unreadable:
            return None, True

    async def _delete(self, key: bytes, timeout_s: float) -> None:
        await self._call(key, lambda client: client.delete(KEY_PREFIX + key), timeout_s)

    async def _size(self, node: ValkeyNode) -> TierSize:
        timeout_s = self._settings.write_timeout_s
        info: dict[str, Any] = await node.call(lambda client: client.info(), timeout_s)
        return TierSize(
            entry_count=int(await node.call(lambda client: client.dbsize(), timeout_s)),
            size_bytes=int(info.get("used_memory", UNKNOWN)),
            budget_bytes=int(info.get("maxmemory", UNKNOWN)),
            eviction_count=int(info.get("evicted_keys", UNKNOWN)),
        )

    async def _call(self, key: bytes, command: Callable[[valkey_client.Valkey], Awaitable[T]], timeout_s: float) -> T:
        return await ask(self._servers, KEY_PREFIX + key, command, timeout_s)


def _scan(cursor: int, pattern: bytes) -> Callable[[valkey_client.Valkey], Awaitable[Any]]:
    return lambda client: client.scan(cursor, match=pattern, count=_KEYS_A_SCAN)
