"""A real Valkey Cluster of three primaries on loopback; its servers can be killed, frozen and started again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import valkey.asyncio as valkey_client

from meshkit.testing.process import BackendProcess, started
from meshkit.testing.valkey import answers
from meshkit.valkey_binary import LOOPBACK, valkey_binary, valkey_command

SERVER_COUNT = 3
SLOT_COUNT = 16384
PATIENCE_S = 20.0
MEMORY_BYTES = 64 * 1024 * 1024


class ClusterServer(BackendProcess):
    """One primary."""

    def __init__(self, folder: Path, port: int, bus_port: int) -> None:
        command = valkey_command(valkey_binary(), port=port, data_dir=folder, memory_bytes=MEMORY_BYTES)
        options = {
            "cluster-enabled": "yes",
            "cluster-port": str(bus_port),
            "cluster-node-timeout": "2000",
            "cluster-require-full-coverage": "no",
        }
        command += [word for key, value in options.items() for word in (f"--{key}", value)]
        super().__init__("Valkey", command, folder / "valkey.log", timeout_s=10.0, poll_s=0.02)
        self.port = port
        self.bus_port = bus_port

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def client(self) -> valkey_client.Valkey:
        """A new client of this server alone."""
        return valkey_client.Valkey(host=LOOPBACK, port=self.port)

    def is_ready(self) -> bool:
        return answers(self.port)


@contextlib.asynccontextmanager
async def valkey_cluster() -> AsyncIterator[Sequence[ClusterServer]]:
    """Servers that know each other and share all slots. Raises ValkeyUnavailable where there is no binary."""
    valkey_binary()
    with tempfile.TemporaryDirectory(prefix="mesh-valkey-cluster-") as scratch, contextlib.ExitStack() as ends:
        servers = []
        for number in range(SERVER_COUNT):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            server = await started(lambda _, folder=folder: ClusterServer(folder, *_free_ports()))
            ends.callback(server.kill)
            servers.append(server)
        await _join(servers)
        yield servers


async def give_slots(servers: Sequence[ClusterServer], slot: int, new_owner: ClusterServer) -> None:
    """Another server owns the slot from now on; what lay in it is forgotten."""
    async with new_owner.client as client:
        new_id = (await client.execute_command("CLUSTER MYID")).decode()
    for server in (new_owner, *servers):
        async with server.client as client:
            await client.execute_command("FLUSHALL")
            await client.execute_command("CLUSTER SETSLOT", slot, "NODE", new_id)


async def _join(servers: Sequence[ClusterServer]) -> None:
    share = -(-SLOT_COUNT // len(servers))
    first = servers[0]
    for number, server in enumerate(servers):
        async with server.client as client:
            last = min(SLOT_COUNT, (number + 1) * share) - 1
            await client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
    async with first.client as client:
        for server in servers[1:]:
            await client.execute_command("CLUSTER MEET", LOOPBACK, server.port, server.bus_port)
    deadline = time.monotonic() + PATIENCE_S
    for server in servers:
        while not await _knows_all(server):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster did not form: {server.log_tail()}")
            await asyncio.sleep(0.05)


async def _knows_all(server: ClusterServer) -> bool:
    async with server.client as client:
        rows = await client.execute_command("CLUSTER SLOTS")
        state = await client.execute_command("CLUSTER INFO")
        return len(rows) == SERVER_COUNT and state["cluster_state"] == "ok"


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind((LOOPBACK, 0))
        other.bind((LOOPBACK, 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])
