"""A real Valkey server on a free port, for tests; it can be killed, frozen, emptied and started again."""

import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from meshkit.testing.process import BackendProcess, started
from meshkit.valkey_binary import LOOPBACK, valkey_binary, valkey_command

READY_TIMEOUT_S = 10.0
POLL_S = 0.02
MEMORY_BYTES = 64 * 1024 * 1024


class ValkeyServer(BackendProcess):
    """One server process. Its port stays the same over `kill` and `start`; its contents do not."""

    def __init__(self, binary: Path, directory: Path, port: int, memory_bytes: int) -> None:
        command = valkey_command(binary, port=port, data_dir=directory, memory_bytes=memory_bytes)
        log = directory / "valkey.log"
        super().__init__("Valkey", command, log, timeout_s=READY_TIMEOUT_S, poll_s=POLL_S)
        self.port = port

    @property
    def url(self) -> str:
        return f"valkey://{LOOPBACK}:{self.port}/0"

    def is_ready(self) -> bool:
        return answers(self.port)


@contextlib.asynccontextmanager
async def valkey_server(*, memory_bytes: int = MEMORY_BYTES) -> AsyncIterator[ValkeyServer]:
    """A server that answers. Raises ValkeyUnavailable where there is no binary."""
    binary = valkey_binary()
    with tempfile.TemporaryDirectory(prefix="mesh-valkey-") as scratch:
        server = await started(lambda _: ValkeyServer(binary, Path(scratch), _free_port(), memory_bytes))
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


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return int(one.getsockname()[1])
