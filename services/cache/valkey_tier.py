"""The second tier: a Valkey or Redis server that all cache instances share. It decides nothing about entries.

Each look-up has one hard time-out over connecting, sending and reading; whatever goes wrong is TierUnavailable. A reply
that belongs to another question, which a cancelled call could leave behind on its connection, fails the entry's
checksum.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import valkey.asyncio as valkey_client
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import ResponseError, ValkeyError

from meshkit.clock import Clock
from services.cache.breaker import Breaker, keep_probing
from services.cache.entry import Entry, Unreadable, decode, encode
from services.cache.settings import L2Settings
from services.cache.tier import UNKNOWN, TierSize, TierUnavailable

KEY_PREFIX = b"mesh:cache:1:"
SCRIPTS_AT_ONCE = 8
_LONGEST_PROBE_S = 1.0

T = TypeVar("T")


class ValkeyTier:
    """Entries on a shared server. `watch` must run for it to be asked at all: it starts as unavailable."""

    def __init__(self, settings: L2Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._breaker = Breaker(failure_limit=settings.failure_limit)
        self._calls_in_flight = 0
        self._script_turns = asyncio.Semaphore(SCRIPTS_AT_ONCE)
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
        remaining_ms = int((entry.expires_at - self._clock.wall()) * 1000)
        if remaining_ms > 0:
            write = self._client.set(KEY_PREFIX + key, encode(key, entry), px=remaining_ms)
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

    async def evaluate(self, script: str, keys: Sequence[bytes], arguments: Sequence[Any]) -> Any:
        """Run a script on the server, in a write's time; at most SCRIPTS_AT_ONCE of them run, others wait their turn.

        Raises TierUnavailable.
        """
        async with self._script_turns:
            # Takes bytes, whatever its signature says.
            command: Any = self._client.eval(script, len(keys), *keys, *arguments)  # type: ignore[arg-type]
            return await self._call(command, self._settings.write_timeout_s, is_script=True)

    async def _call(self, command: Awaitable[T], timeout_s: float, *, is_script: bool = False) -> T:
        """Refused calls count for nothing; an answer, even an error, shows that the server lives."""
        is_busy = not is_script and self._calls_in_flight >= self._settings.max_connections
        if self._breaker.is_open or is_busy:
            _discard(command)
            raise TierUnavailable("not connected" if self._breaker.is_open else "all connections are busy")
        self._calls_in_flight += not is_script
        try:
            async with asyncio.timeout(timeout_s):
                reply = await command
        except ResponseError as error:
            raise TierUnavailable("the server refused the command") from error
        except (ValkeyError, OSError, TimeoutError) as error:
            self._breaker.failed()
            raise TierUnavailable("no answer in time") from error
        finally:
            self._calls_in_flight -= not is_script
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
        # More than calls may be in flight: the probe's own, and those of scripts.
        max_connections=settings.max_connections + SCRIPTS_AT_ONCE + 1,
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
