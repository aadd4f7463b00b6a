"""One channel per peer, kept warm, with a dead link noticed in seconds.

Without keepalive a cut link is silent for 14 s and more. A frozen peer is only noticed with pings that are sent
without data too, and with a time-out of their own.

A channel that nobody asked for in a while and that has no connection is closed when another one is opened, so departed
peers leave nothing behind; with no connection, no call can be in flight on it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import grpc

from meshkit.clock import Clock, SystemClock
from meshkit.settings import LARGEST_MESSAGE_BYTES

KEEPALIVE_MS = 2000
PING_TIMEOUT_MS = 2000
UNUSED_AFTER_S = 300.0
_CONNECTED = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.CONNECTING)

CLIENT_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
    ("grpc.max_send_message_length", LARGEST_MESSAGE_BYTES),
    # A call that fails is repeated by the caller's own rule, never silently.
    ("grpc.enable_retries", 0),
)

SERVER_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.http2.max_ping_strikes", 0),
    # Otherwise two servers share one port without a word.
    ("grpc.so_reuseport", 0),
    ("grpc.enable_channelz", 1),
)


class ChannelPool:
    """Channels by address, for as long as their peers stay. Ask for one with each call: what is kept may get closed."""

    def __init__(self, credentials: grpc.ChannelCredentials | None = None, *, clock: Clock | None = None) -> None:
        self._credentials = credentials
        self._clock = clock or SystemClock()
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._asked_at: dict[str, float] = {}
        self._stubs: defaultdict[str, dict[type, Any]] = defaultdict(dict)
        self._closing: set[asyncio.Task[None]] = set()

    def get(self, address: str) -> grpc.aio.Channel:
        """The channel to an address, `host:port` or `unix:PATH`; opened at first use."""
        self._asked_at[address] = self._clock.now()
        if address not in self._channels:
            self._close_departed()
            self._channels[address] = self._open(address)
        return self._channels[address]

    def stub(self, stub_type: type, address: str) -> Any:
        """The stub of a service at an address; made once a channel, since making one costs a tenth of a call."""
        channel = self.get(address)
        stubs = self._stubs[address]
        if stub_type not in stubs:
            stubs[stub_type] = stub_type(channel)
        return stubs[stub_type]

    async def close(self) -> None:
        """Close every channel; calls on them end with BackendDown."""
        await asyncio.gather(*(channel.close() for channel in self._channels.values()), *self._closing)
        self._channels.clear()
        self._asked_at.clear()
        self._stubs.clear()

    def _close_departed(self) -> None:
        unused_since = self._clock.now() - UNUSED_AFTER_S
        for address, channel in list(self._channels.items()):
            if self._asked_at[address] <= unused_since and channel.get_state() not in _CONNECTED:
                del self._channels[address], self._asked_at[address]
                self._stubs.pop(address, None)
                task = asyncio.get_running_loop().create_task(channel.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _open(self, address: str) -> grpc.aio.Channel:
        if self._credentials is not None:
            return grpc.aio.secure_channel(address, self._credentials, options=CLIENT_OPTIONS)
        return grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
