"""The second tier: a Valkey or Redis server that all cache instances share. It decides nothing about entries.

Each look-up has one hard time-out over connecting, sending and reading; whatever goes wrong is TierUnavailable. A reply
that belongs to another question, which a cancelled call could leave behind on its connection, fails the entry's
checksum.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import valkey.asyncio as valkey_client
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import ResponseError, ValkeyError

from meshkit.clock import Clock
from services.cache.breaker import Breaker, keep_probing
from services.cache.entry import VERSION, Entry, Unreadable, decode, encode
from services.cache.lifetime import TierLifetime
from services.cache.settings import L2Settings
from services.cache.tier import UNKNOWN, Swept, TierSize, TierUnavailable

KEY_PREFIX = b"mesh:cache:%d:" % VERSION
"""Instances of another version, such as during a roll-out, do not meet in one server."""
_KEYS_A_SCAN = 500
_LONGEST_PROBE_S = 1.0

T = TypeVar("T")


class ValkeyTier:
    """Entries on a shared server. `watch` must run for it to be asked at all: it starts as unavailable."""

    def __init__(self, settings: L2Settings, lifetime: TierLifetime, clock: Clock) -> None:
        self._settings = settings
        self._lifetime = lifetime
        self._clock = clock
        self._breaker = Breaker(failure_limit=settings.failure_limit)
        self._calls_in_flight = 0
        self._client = _client(settings)

    @property
    def is_available(self) -> bool:
        """Whether look-ups are sent at all."""
        return not self._breaker.is_open

    async def watch(self) -> None:
        """Connect, and connect again whenever the server went away. Runs until cancelled."""
        await keep_probing(
            self._breaker,
            self._answers,
            clock=self._clock,
            first_rest_s=self._settings.first_rest_s,
            longest_rest_s=self._settings.longest_rest_s,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, key: bytes) -> Entry | None:
        data = await self._call(self._client.get(KEY_PREFIX + key), self._settings.timeout_s)
        if data is None:
            return None
        try:
            return decode(key, data)
        except Unreadable:
            with contextlib.suppress(TierUnavailable):
                await self.delete(key)
            raise

    async def put(self, key: bytes, entry: Entry) -> None:
        lives_ms = int(self._lifetime.seconds(entry.expires_at - self._clock.wall()) * 1000)
        if lives_ms > 0:
            write = self._client.set(KEY_PREFIX + key, encode(key, entry), px=lives_ms)
            await self._call(write, self._settings.write_timeout_s)

    async def delete(self, key: bytes) -> None:
        await self._call(self._client.delete(KEY_PREFIX + key), self._settings.timeout_s)

    async def size(self) -> TierSize:
        """Of the whole server, whoever filled it."""
        info: dict[str, Any] = await self._call(self._client.info(), self._settings.write_timeout_s)
        entry_count = await self._call(self._client.dbsize(), self._settings.write_timeout_s)
        return TierSize(
            entry_count=int(entry_count),
            size_bytes=int(info.get("used_memory", UNKNOWN)),
            budget_bytes=int(info.get("maxmemory", UNKNOWN)),
            eviction_count=int(info.get("evicted_keys", UNKNOWN)),
        )

    async def sweep(self, prefix: bytes, matches: Callable[[bytes, Entry], bool], *, apply: bool) -> Swept:
        entry_count = size_bytes = 0
        async for key in self._keys(prefix):
            entry, is_unreadable = await self._peek(key)
            matched = entry is not None and matches(key, entry)
            if entry is not None and matched:
                entry_count += 1
                size_bytes += entry.size_bytes
            if apply and (matched or is_unreadable):
                await self._call(self._client.delete(KEY_PREFIX + key), self._settings.write_timeout_s)
        return Swept(entry_count=entry_count, size_bytes=size_bytes)

    async def _keys(self, prefix: bytes) -> AsyncIterator[bytes]:
        """Storage keys under the prefix, each once."""
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", KEY_PREFIX + prefix) + b"*"
        seen: set[bytes] = set()
        cursor = 0
        while True:
            scan = self._client.scan(cursor, match=pattern, count=_KEYS_A_SCAN)
            cursor, names = await self._call(scan, self._settings.write_timeout_s)
            for key in {name.removeprefix(KEY_PREFIX) for name in names} - seen:
                seen.add(key)
                yield key
            if cursor == 0:
                return

    async def _peek(self, key: bytes) -> tuple[Entry | None, bool]:
        """The entry, if there is a readable one, and whether there is an unreadable one."""
        data = await self._call(self._client.get(KEY_PREFIX + key), self._settings.write_timeout_s)
        try:
            return (None, False) if data is None else (decode(key, data), False)
        except Unreadable:
            return None, True

    async def _call(self, command: Awaitable[T], timeout_s: float) -> T:
        """Refused calls count for nothing; an answer, even an error, shows that the server lives."""
        if self._breaker.is_open or self._calls_in_flight >= self._settings.max_connections:
            _discard(command)
            raise TierUnavailable("not connected" if self._breaker.is_open else "all connections are busy")
        self._calls_in_flight += 1
        try:
            async with asyncio.timeout(timeout_s):
                reply = await command
        except ResponseError as error:
            raise TierUnavailable("the server refused the command") from error
        except (ValkeyError, OSError, TimeoutError) as error:
            self._breaker.failed()
            raise TierUnavailable("no answer in time") from error
        finally:
            self._calls_in_flight -= 1
        self._breaker.succeeded()
        return reply

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(_LONGEST_PROBE_S):
                await self._client.ping()
        except (ValkeyError, OSError, TimeoutError):
            return False
        return True


def _client(settings: L2Settings) -> valkey_client.Valkey:
    password = settings.password_file.read_text().strip() if settings.password_file else None
    identity = {"username": settings.username or None, "password": password} if password else {}
    pool = valkey_client.ConnectionPool.from_url(
        settings.url,
        # One more than calls may be in flight: the probe's own.
        max_connections=settings.max_connections + 1,
        retry=Retry(NoBackoff(), 0),
        # The name and version of the client library would cost two more round trips a connection.
        lib_name=None,
        lib_version=None,
        **identity,
    )
    return valkey_client.Valkey(connection_pool=pool)


def _discard(command: Awaitable[Any]) -> None:
    """A coroutine that is never awaited would warn."""
    close = getattr(command, "close", None)
    if close is not None:
        close()
