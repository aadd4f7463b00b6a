"""What the agent is told of this process: until it has heard it once, and whenever it forgot; never too much."""

import asyncio
import contextlib
from typing import Any

from aiohttp import web

from meshkit.registry import Registration
from meshkit.registry.consul import ConsulRegistry
from meshkit.registry.snapshot import SnapshotStore
from meshkit.testing import FakeClock

PATIENCE_S = 5.0


class Agent:
    """Knows what it was told; while away it answers nothing."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self.told: list[dict[str, Any]] = []
        self.confirmed_count = 0
        self.is_away = False

    async def register(self, request: web.Request) -> web.Response:
        self._end_if_away(request)
        # Consul reads names in any case.
        entry = {key.lower(): value for key, value in (await request.json()).items()}
        self.told.append(entry)
        self.entries[entry["id"]] = entry
        return web.Response()

    async def deregister(self, request: web.Request) -> web.Response:
        self.entries.pop(request.match_info["id"], None)
        return web.Response()

    async def services(self, request: web.Request) -> web.Response:
        self._end_if_away(request)
        self.confirmed_count += 1
        return web.json_response(self.entries)

    def _end_if_away(self, request: web.Request) -> None:
        if self.is_away:
            raise web.HTTPInternalServerError


@contextlib.asynccontextmanager
async def registry_at(agent: Agent, clock: FakeClock, tmp_path):
    app = web.Application()
    app.router.add_put("/v1/agent/service/register", agent.register)
    app.router.add_put("/v1/agent/service/deregister/{id}", agent.deregister)
    app.router.add_get("/v1/agent/services", agent.services)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    registry = ConsulRegistry(
        url=f"http://{host}:{port}", token="", clock=clock, snapshots=SnapshotStore(tmp_path), check_interval_s=1
    )
    try:
        yield registry
    finally:
        await registry.deregister()
        await registry.close()
        await runner.cleanup()


def registration(**given: Any) -> Registration:
    return Registration(id="a", service="mesh-cache", host="127.0.0.1", port=7, grpc_name="x", **given)


async def until(clock: FakeClock, holds) -> None:
    """Move time on until it holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await clock.advance(1)
            await asyncio.sleep(0.005)


async def test_an_entry_of_the_process_before_is_replaced_once_the_agent_is_back(tmp_path):
    agent, clock = Agent(), FakeClock()
    agent.entries["a"] = {"id": "a", "meta": {"revision": "old"}}
    agent.is_away = True
    async with registry_at(agent, clock, tmp_path) as registry:
        await registry.register(registration(metadata={"revision": "new"}))
        agent.is_away = False
        await until(clock, lambda: agent.told)
    assert agent.told[0]["meta"] == {"revision": "new"}


async def test_an_agent_that_knows_this_process_is_not_told_again(tmp_path):
    agent, clock = Agent(), FakeClock()
    async with registry_at(agent, clock, tmp_path) as registry:
        await registry.register(registration())
        await until(clock, lambda: agent.confirmed_count >= 2)
        agent.is_away = True
        await until(clock, lambda: clock.now() > 30)
        agent.is_away = False
        await until(clock, lambda: agent.confirmed_count >= 4)
    assert len(agent.told) == 1


async def test_an_instance_is_announced_as_passing_only_while_it_serves(tmp_path):
    agent, clock, serving = Agent(), FakeClock(), [True]
    async with registry_at(agent, clock, tmp_path) as registry:
        await registry.register(registration(is_serving=lambda: serving[0]))
        serving[0] = False
        agent.entries.clear()
        await until(clock, lambda: len(agent.told) == 2)
    assert [entry["checks"][0]["Status"] for entry in agent.told] == ["passing", "critical"]
