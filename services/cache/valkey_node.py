"""One Valkey or Redis server: how it is reached, and when it is passed over. It decides nothing about keys or entries.

Each call has one hard time-out over connecting, sending and reading; whatever goes wrong is TierUnavailable.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import valkey.asyncio as valkey_client
from valkey.asyncio.connection import SSLConnection, parse_url
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import ResponseError, ValkeyError

from meshkit.clock import Clock
from services.cache.breaker import Breaker, keep_probing
from services.cache.settings import L2Settings
from services.cache.tier import TierUnavailable

_LONGEST_PROBE_S = 1.0

T = TypeVar("T")


class Refused(TierUnavailable):
    """The server answered with an error; it lives."""


class ValkeyNode:
    """A server at `address` (host:port), or at the settings' URL. `watch` must run for it to be asked at all."""

    def __init__(self, settings: L2Settings, clock: Clock, address: str = "") -> None:
        self.address = address or urlsplit(settings.url).netloc
        self._settings = settings
        self._clock = clock
        self._breaker = Breaker(failure_limit=settings.failure_limit)
        self._calls_in_flight = 0
        self._client = _client(settings, address)

    @property
    def is_available(self) -> bool:
        """Whether calls are sent at all."""
        return not self._breaker.is_open

    async def watch(self) -> None:
        """Connect, and connect again whenever the server went away. Runs until cancelled."""
        await keep_probing(self._breaker, self._answers, clock=self._clock, settings=self._settings)

    async def close(self) -> None:
        await self._client.aclose()

    async def call(self, command: Callable[[valkey_client.Valkey], Awaitable[T]], timeout_s: float) -> T:
        """The reply. Calls that are not sent count for nothing; an answer, even an error, shows that the server lives.

        Raises TierUnavailable; Refused for an answer that is an error.
        """
        if self._breaker.is_open or self._calls_in_flight >= self._settings.max_connections:
            raise TierUnavailable("not connected" if self._breaker.is_open else "all connections are busy")
        self._calls_in_flight += 1
        try:
            async with asyncio.timeout(timeout_s):
                reply = await command(self._client)
        except ResponseError as error:
            raise Refused(str(error)) from error
        except (ValkeyError, OSError, TimeoutError) as error:
            self._breaker.failed()
            raise TierUnavailable("no answer in time") from error
        finally:
            self._calls_in_flight -= 1
        self._breaker.succeeded()
        return reply

    async def ask_past_breaker(self, command: str) -> Any:
        """The reply to a command that finds out whether and what the server is. Raises TierUnavailable."""
        try:
            async with asyncio.timeout(_LONGEST_PROBE_S):
                return await self._client.execute_command(command)  # type: ignore[no-untyped-call]
        except (ValkeyError, OSError, TimeoutError) as error:
            raise TierUnavailable("no answer in time") from error

    async def _answers(self) -> bool:
        """The probe."""
        try:
            await self.ask_past_breaker("PING")
        except TierUnavailable:
            return False
        return True


class _TlsConnection(SSLConnection):
    """With a context made once: the library makes one per connection, which holds the loop for tens of milliseconds."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = tls


def _client(settings: L2Settings, address: str) -> valkey_client.Valkey:
    options: dict[str, Any] = dict(parse_url(settings.url))
    if options.get("connection_class") is SSLConnection:
        options |= {"connection_class": _TlsConnection, "tls": _tls(settings)}
    if address:
        host, _, port = address.rpartition(":")
        options |= {"host": host.strip("[]"), "port": int(port)}
    if settings.password_file is not None:
        password = settings.password_file.read_text().strip()
        options |= {"username": settings.username or None, "password": password}
    pool = valkey_client.ConnectionPool(
        # One more than calls may be in flight: the probe's own.
        max_connections=settings.max_connections + 1,
        retry=Retry(NoBackoff(), 0),
        # The name and version of the client library would cost two more round trips a connection.
        lib_name=None,
        lib_version=None,
        **options,
    )
    return valkey_client.Valkey(connection_pool=pool)


def _tls(settings: L2Settings) -> ssl.SSLContext:
    """Checks the server's name and certificate, against our own authority alone where there is one."""
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    if settings.certificate_file is not None and settings.key_file is not None:
        context.load_cert_chain(settings.certificate_file, settings.key_file)
    return context
