"""One look at a mesh: instances with health and load, and the local processes behind them, as a table."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mesh.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from meshctl.local.ports import LOOPBACK
from meshctl.local.processes import is_running
from meshctl.local.state import RunState, load_state
from meshctl.registry_view import SERVICES, RegisteredInstance, registered

PLAIN_WIDTH = 160
LOAD_TIMEOUT_S = 1.0
DEFAULT_CONSUL_URL = f"http://{LOOPBACK}:8500"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """One instance, and what it is busy with where it says so."""

    service: str
    id: str
    address: str
    is_healthy: bool
    detail: str
    metadata: Mapping[str, str]
    load: Mapping[str, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A mesh at one moment."""

    registry: str
    instances: tuple[InstanceRow, ...]
    missing: tuple[str, ...]
    """Services without a healthy instance."""
    ended_processes: tuple[str, ...]
    """Local processes that were started and run no more."""

    @property
    def is_whole(self) -> bool:
        return not self.missing


async def look(run_dir: Path, consul_url: str | None) -> Overview:
    """Asks the registry, then every engine for its load."""
    state = None if consul_url else load_state(run_dir)
    kind = state.registry if state else "consul"
    url = consul_url or _consul_url(state)
    found = await asyncio.to_thread(registered, kind, consul_url=url, run_dir=run_dir)
    rows = await asyncio.gather(*(_row_of(instance) for instance in found))
    healthy = {row.service for row in rows if row.is_healthy}
    return Overview(
        registry=url if kind == "consul" else f"files in {run_dir / 'registry'}",
        instances=tuple(rows),
        missing=tuple(service for service in SERVICES if service not in healthy),
        ended_processes=tuple(one.name for one in (state.processes if state else ()) if not is_running(one)),
    )


def print_once(overview: Overview) -> None:
    """Never cut to a width where there is no terminal: the reader may be another program."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(_drawing(overview))


def show_live(look_again: Callable[[], Overview], refresh_s: float) -> Overview:
    """Redraws until Ctrl-C; returns the last look."""
    overview = look_again()
    with Live(_drawing(overview), auto_refresh=False, console=Console()) as live:
        try:
            while True:
                time.sleep(refresh_s)
                overview = look_again()
                live.update(_drawing(overview), refresh=True)
        except KeyboardInterrupt:
            return overview


def _consul_url(state: RunState | None) -> str:
    return f"http://{LOOPBACK}:{state.ports.consul}" if state else DEFAULT_CONSUL_URL


async def _row_of(instance: RegisteredInstance) -> InstanceRow:
    is_engine = instance.service == "mesh-inference" and instance.is_healthy
    return InstanceRow(
        service=instance.service,
        id=instance.id,
        address=instance.address,
        is_healthy=instance.is_healthy,
        detail=instance.detail,
        metadata=dict(instance.metadata),
        load=await _load_of(instance.address) if is_engine else None,
    )


async def _load_of(address: str) -> dict[str, float] | None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = inference_service_pb2_grpc.InferenceServiceStub(channel)
        try:
            reply = await stub.GetLoad(inference_service_pb2.GetLoadRequest(), timeout=LOAD_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return None
    load = reply.load
    return {
        "running": load.running_count,
        "waiting": load.waiting_count,
        "kv_used_tokens": load.kv_used_tokens,
        "kv_total_tokens": load.kv_total_tokens,
        "step_ms": load.step_time.ToMicroseconds() / 1e3,
        "generated_tokens": load.generated_token_count,
    }


def _drawing(overview: Overview) -> Group:
    table = Table("service", "address", "health", "model", "version", "load", box=None)
    for row in overview.instances:
        health = Text("healthy", "green") if row.is_healthy else Text(row.detail or "failing", "red")
        model = " ".join(filter(None, (row.metadata.get("model"), row.metadata.get("tier"))))
        table.add_row(
            row.service,
            row.address,
            health,
            model or "-",
            row.metadata.get("version", "-"),
            _load_text(row.load),
        )
    notes = [Text(f"registry: {overview.registry}", "dim")]
    notes += [Text(f"{service} has no healthy instance", "red") for service in overview.missing]
    notes += [Text(f"process {name} has ended, see its log", "red") for name in overview.ended_processes]
    return Group(table, *notes)


def _load_text(load: Mapping[str, float] | None) -> str:
    if load is None:
        return "-"
    share = load["kv_used_tokens"] / load["kv_total_tokens"] if load["kv_total_tokens"] else 0.0
    return (
        f"{load['running']:.0f} running, {load['waiting']:.0f} waiting, KV {share:.0%}, step {load['step_ms']:.0f} ms"
    )
