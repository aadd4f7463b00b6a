"""A real Consul agent on free ports, for tests; it can be killed, frozen and started again."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from meshkit.consul_agent import LOOPBACK, ConsulPorts, consul_command, has_leader
from meshkit.consul_binary import obtain_consul

LEADER_TIMEOUT_S = 20.0
POLL_S = 0.05
STOP_TIMEOUT_S = 5.0
PORT_ATTEMPTS = 3


class ConsulAgent:
    """One agent process with the state in its own directory."""

    def __init__(self, binary: Path, directory: Path, ports: ConsulPorts) -> None:
        self.ports = ports
        self._directory = directory
        self._command = consul_command(binary, data_dir=directory, ports=ports)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.http}"

    async def start(self) -> None:
        """Starts the process and returns once it has a leader. Raises RuntimeError with the agent's last words."""
        self._process = self._spawn()
        deadline = time.monotonic() + LEADER_TIMEOUT_S
        while not await asyncio.to_thread(has_leader, self.url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Consul did not start: {self.log_tail()}")
            await asyncio.sleep(POLL_S)

    def kill(self) -> None:
        """SIGKILL, as if the machine had died; `start` brings it back with its state."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def pause(self) -> None:
        """Freezes the agent: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Ends `pause`."""
        self._signal(signal.SIGCONT)

    def log_tail(self) -> str:
        return (self._directory / "agent.log").read_text(errors="replace")[-1500:]

    def _spawn(self) -> subprocess.Popen[bytes]:
        with (self._directory / "agent.log").open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@contextlib.asynccontextmanager
async def consul_agent() -> AsyncIterator[ConsulAgent]:
    """A running agent with a leader. Raises ConsulUnavailable where no binary can be had."""
    binary = await asyncio.to_thread(obtain_consul)
    with tempfile.TemporaryDirectory(prefix="mesh-consul-") as scratch:
        agent = await _started(binary, Path(scratch))
        try:
            yield agent
        finally:
            agent.kill()


async def _started(binary: Path, scratch: Path) -> ConsulAgent:
    """A free port may be taken between choosing and binding it, so other ports are tried."""
    for attempt in range(PORT_ATTEMPTS):
        agent = ConsulAgent(binary, scratch / str(attempt), _free_ports())
        try:
            await agent.start()
        except RuntimeError:
            if attempt + 1 == PORT_ATTEMPTS:
                raise
            continue
        return agent
    raise AssertionError("unreachable")


def _free_ports() -> ConsulPorts:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        http, server, serf = (one.getsockname()[1] for one in sockets)
    return ConsulPorts(http=http, server=server, serf=serf)
