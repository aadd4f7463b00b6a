"""A TCP link with faults on command: cut it, freeze it, slow it, refuse new connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class FaultProxy:
    """Forwards bytes from `address` to a target until told otherwise."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay_s = 0.0
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.address = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, target: str) -> AsyncIterator[FaultProxy]:
        """A proxy on a free loopback port in front of `host:port`."""
        proxy = cls(target)
        proxy._server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        proxy.address = f"127.0.0.1:{proxy._server.sockets[0].getsockname()[1]}"
        try:
            yield proxy
        finally:
            proxy._server.close()
            proxy.thaw()
            proxy.cut()

    def cut(self) -> None:
        """Reset every connection; new ones are served."""
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Let bytes pile up: the peer looks alive and says nothing."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let bytes flow again."""
        self._flowing.set()

    def slow(self, delay_s: float) -> None:
        """Hold every piece back for this long."""
        self._delay_s = delay_s

    def refuse(self, refuses: bool = True) -> None:
        """Close new connections at once."""
        self._refuses = refuses

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, far_writer))
                tasks.create_task(self._pump(far_reader, writer))
        finally:
            self._writers -= pair
            for each in pair:
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
