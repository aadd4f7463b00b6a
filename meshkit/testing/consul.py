"""A real Consul agent on free ports, for tests; it can be killed, frozen and started again."""

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from meshkit.consul_agent import LOOPBACK, ConsulPorts, consul_command, has_leader
from meshkit.consul_binary import obtain_consul
from meshkit.testing.process import BackendProcess, started

LEADER_TIMEOUT_S = 20.0
POLL_S = 0.05


class ConsulAgent(BackendProcess):
    """One agent process with the state in its own directory; ready once it has a leader."""

    def __init__(self, binary: Path, directory: Path, ports: ConsulPorts) -> None:
        command = consul_command(binary, data_dir=directory, ports=ports)
        log = directory / "agent.log"
        super().__init__("Consul", command, log, timeout_s=LEADER_TIMEOUT_S, poll_s=POLL_S)
        self.ports = ports
        self._directory = directory

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.http}"

    def is_ready(self) -> bool:
        return has_leader(self.url)


@contextlib.asynccontextmanager
async def consul_agent() -> AsyncIterator[ConsulAgent]:
    """A running agent with a leader. Raises ConsulUnavailable where no binary can be had."""
    binary = await asyncio.to_thread(obtain_consul)
    with tempfile.TemporaryDirectory(prefix="mesh-consul-") as scratch:
        agent = await started(lambda attempt: ConsulAgent(binary, Path(scratch) / str(attempt), _free_ports()))
        try:
            yield agent
        finally:
            agent.kill()


def _free_ports() -> ConsulPorts:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        http, server, serf = (one.getsockname()[1] for one in sockets)
    return ConsulPorts(http=http, server=server, serf=serf)
