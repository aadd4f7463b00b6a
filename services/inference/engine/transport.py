"""How engine messages travel: msgpack frames behind a 4-byte big-endian length, over a Unix socket pair or TCP.

`BlockingChannel` is the engine's end (and rank 0's line to other ranks and nodes), `StreamChannel` the asyncio end, in
the RPC process and on other nodes. Both bound the size of a frame, so that a corrupt length can't ask for gigabytes.
`EndOfStream` means that the peer has gone; a bad frame is a `BadFrame` and the channel is of no further use.
"""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from typing import Any, Generic, TypeVar

import msgspec

MAX_FRAME_BYTES = 64 * 1024 * 1024
_LENGTH_BYTES = 4

Sent = TypeVar("Sent")
Received = TypeVar("Received")


class EndOfStream(Exception):
    """The peer closed its end."""


class BadFrame(Exception):
    """A frame that is too long or doesn't hold one of the expected messages."""


class _Codec(Generic[Received]):
    def __init__(self, received: Any, max_frame_bytes: int) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Received] = msgspec.msgpack.Decoder(received)
        self._max_frame_bytes = max_frame_bytes

    def frame(self, message: object) -> bytes:
        body = self._encoder.encode(message)
        self.length(len(body).to_bytes(_LENGTH_BYTES, "big"))
        return len(body).to_bytes(_LENGTH_BYTES, "big") + body

    def length(self, header: bytes | bytearray) -> int:
        length = int.from_bytes(header, "big")
        if length > self._max_frame_bytes:
            raise BadFrame(f"a frame of {length} bytes is over the limit of {self._max_frame_bytes}")
        return length

    def message(self, body: bytes | bytearray) -> Received:
        try:
            return self._decoder.decode(body)
        except msgspec.DecodeError as error:
            raise BadFrame(str(error)) from error


class BlockingChannel(Generic[Sent, Received]):
    """The blocking end. `received` is the type (or union) that incoming frames must decode to."""

    def __init__(self, sock: socket.socket, received: Any, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        sock.setblocking(True)
        self._socket = sock
        self._codec: _Codec[Received] = _Codec(received, max_frame_bytes)
        self._is_writing = threading.Lock()

    def write(self, message: Sent) -> None:
        """Threads may write side by side."""
        with self._is_writing:
            self._send(message)

    def write_if_free(self, message: Sent, wait_s: float = 0.0) -> bool:
        """Write unless another thread is writing for longer than `wait_s`; False if so."""
        if not self._is_writing.acquire(timeout=wait_s):
            return False
        try:
            self._send(message)
        finally:
            self._is_writing.release()
        return True

    def read(self, within_s: float | None = None) -> Received:
        """The next message; raises TimeoutError where it isn't whole within that time."""
        until = None if within_s is None else time.monotonic() + within_s
        length = self._codec.length(self._exactly(_LENGTH_BYTES, until))
        return self._codec.message(self._exactly(length, until))

    def is_readable(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for a frame or the end of the stream; 0 only looks."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000.0))

    def close(self) -> None:
        self._socket.close()

    def _send(self, message: Sent) -> None:
        try:
            self._socket.sendall(self._codec.frame(message))
        except OSError as error:
            raise EndOfStream from error

    def _exactly(self, count: int, until: float | None) -> bytearray:
        buffer = bytearray(count)
        view, filled = memoryview(buffer), 0
        while filled < count:
            if until is not None and not self.is_readable(max(0.0, until - time.monotonic())):
                raise TimeoutError
            try:
                got = self._socket.recv_into(view[filled:])
            except OSError as error:
                raise EndOfStream from error
            if got == 0:
                raise EndOfStream
            filled += got
        return buffer


class StreamChannel(Generic[Sent, Received]):
    """The asyncio end. One task reads, one task writes at a time."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        received: Any,
        *,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._codec: _Codec[Received] = _Codec(received, max_frame_bytes)

    async def read(self) -> Received:
        try:
            length = self._codec.length(await self._reader.readexactly(_LENGTH_BYTES))
            return self._codec.message(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise EndOfStream from error

    async def write(self, message: Sent) -> None:
        try:
            self._writer.write(self._codec.frame(message))
            await self._writer.drain()
        except OSError as error:
            raise EndOfStream from error

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass


async def open_stream_channel(sock: socket.socket, received: Any) -> StreamChannel[Any, Any]:
    """Wrap one end of a socket pair for the running event loop."""
    sock.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    return StreamChannel(reader, writer, received)
