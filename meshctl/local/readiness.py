"""Decides when a started process counts as ready: services when the registry calls them healthy, the rest by asking."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

from meshctl.local.plan import MeshPlan
from meshctl.local.ports import LOOPBACK
from meshctl.local.processes import is_running, log_tail
from meshctl.local.state import ProcessRecord
from meshctl.registry_view import registered
from meshkit.consul_agent import has_leader

POLL_S = 0.2


class NotStarted(Exception):
    """A process died or did not become ready in time; the text holds its last log lines and one sentence."""


async def wait_ready(plan: MeshPlan, record: ProcessRecord, timeout_s: float, note: Callable[[str], None]) -> None:
    """Returns once it is ready; `note` hears what the process says it is at. Raises NotStarted."""
    is_ready = _probe_of(plan, record.name)
    deadline = time.monotonic() + timeout_s
    while not await is_ready():
        if not is_running(record):
            raise NotStarted(f"{log_tail(record)}\n{record.name} ended while it was starting; its log is {record.log}")
        if time.monotonic() > deadline:
            raise NotStarted(
                f"{log_tail(record)}\n{record.name} was not healthy after {timeout_s:.0f} s; its log is {record.log}"
            )
        note(_stage(record))
        await asyncio.sleep(POLL_S)


def _stage(record: ProcessRecord) -> str:
    """The last `stage` in its log: the engine's names what takes so long."""
    for line in reversed(log_tail(record).splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "stage" in entry:
            return str(entry["stage"])
    return ""


def _probe_of(plan: MeshPlan, name: str) -> Callable[[], Awaitable[bool]]:
    if name == "consul":
        return lambda: asyncio.to_thread(has_leader, plan.consul_url)
    if name == "valkey":
        return lambda: _accepts(plan.ports.valkey)
    return lambda: asyncio.to_thread(_is_healthy, plan, name)


def _is_healthy(plan: MeshPlan, name: str) -> bool:
    port = plan.ports.otlp if name == "console" else plan.ports.named()[name]
    found = registered(plan.registry, consul_url=plan.consul_url, run_dir=plan.run_dir)
    return any(
        one.service == f"mesh-{name}" and one.is_healthy and one.address == f"{LOOPBACK}:{port}" for one in found
    )


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True
