"""A real Valkey server on a free port, for tests; it can be killed, frozen, emptied and started again."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from meshkit.valkey_binary import LOOPBACK, valkey_binary, valkey_command

READY_TIMEOUT_S = 10.0
POLL_S = 0.02
STOP_TIMEOUT_S = 5.0
PORT_ATTEMPTS = 3
MEMORY_BYTES = 64 * 1024 * 1024


class ValkeyServer:
    """One server process. Its port stays the same over `kill` and `start`; its contents do not."""

    def __init__(self, binary: Path, directory: Path, port: int, memory_bytes: int) -> None:
        self.port = port
        self._directory = directory
        self._command = valkey_command(binary, port=port, data_dir=directory, memory_bytes=memory_bytes)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"valkey://{LOOPBACK}:{self.port}/0"

    async def start(self) -> None:
        """Starts the process and returns once it answers. Raises RuntimeError with the server's last words."""
        self._process = self._launched()
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not await asyncio.to_thread(answers, self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Valkey did not start: {self.log_tail()}")
            await asyncio.sleep(POLL_S)

    def kill(self) -> None:
        """SIGKILL, as if the machine had died."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def pause(self) -> None:
        """Freezes the server: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Ends `pause`."""
        self._signal(signal.SIGCONT)

    def log_tail(self) -> str:
        return (self._directory / "valkey.log").read_text(errors="replace")[-1500:]

    def _launched(self) -> subprocess.Popen[bytes]:
        with (self._directory / "valkey.log").open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@contextlib.asynccontextmanager
async def valkey_server(*, memory_bytes: int = MEMORY_BYTES) -> AsyncIterator[ValkeyServer]:
    """A server that answers. Raises ValkeyUnavailable where there is no binary."""
    binary = valkey_binary()
    with tempfile.TemporaryDirectory(prefix="mesh-valkey-") as scratch:
        server = await _started(binary, Path(scratch), memory_bytes)
        try:
            yield server
        finally:
            server.kill()


def answers(port: int) -> bool:
    """Whether a server on this loopback port replies to PING."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=0.5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


async def _started(binary: Path, scratch: Path, memory_bytes: int) -> ValkeyServer:
    """A free port may be taken between choosing and binding it, so other ports are tried."""
    for attempt in range(PORT_ATTEMPTS):
        server = ValkeyServer(binary, scratch, _free_port(), memory_bytes)
        try:
            await server.start()
        except RuntimeError:
            if attempt + 1 == PORT_ATTEMPTS:
                raise
            continue
        return server
    raise AssertionError("unreachable")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return int(one.getsockname()[1])
