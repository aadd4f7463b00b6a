"""Whatever answers on the agent's port, the watch goes on and never loses the last-known instances."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from aiohttp import web

from meshkit.registry.consul import ConsulRegistry
from meshkit.registry.snapshot import SnapshotStore
from meshkit.testing import FakeClock

PATIENCE_S = 5.0


def row(name: str, status: str = "passing") -> dict[str, Any]:
    return {
        "Node": {"Address": "10.0.0.1"},
        "Service": {"ID": name, "Address": "", "Port": 7, "Meta": {"model": "m"}},
        "Checks": [{"Status": "passing"}, {"Status": status}],
    }


GOOD = (200, json.dumps([row("a"), row("b", "critical")]), "1")


class Agent:
    """Answers the first health query with `GOOD` and every later one with what the test says."""

    def __init__(self, later):
        self.later = later
        self.queries: list[web.Request] = []
        self.has_asked_again = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(request)
        if len(self.queries) > 2:
            self.has_asked_again.set()
        status, body, index = GOOD if len(self.queries) == 1 else self.later
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        headers = {} if index is None else {"X-Consul-Index": index}
        return web.Response(status=status or 200, body=body, headers=headers, content_type="application/json")


@contextlib.asynccontextmanager
async def watched(agent: Agent, tmp_path, clock, token=""):
    app = web.Application()
    app.router.add_get("/v1/health/service/mesh-cache", agent.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    snapshots = SnapshotStore(tmp_path)
    registry = ConsulRegistry(
        url=f"http://{host}:{port}", token=token, clock=clock, snapshots=snapshots, check_interval_s=1
    )
    try:
        instances = registry.watch("mesh-cache")
        await asyncio.wait_for(instances.non_empty(), PATIENCE_S)
        yield instances
    finally:
        await registry.close()
        await runner.cleanup()


async def told(clock, event):
    """Move time on until the event has come."""
    async with asyncio.timeout(PATIENCE_S):
        while not event.is_set():
            await clock.advance(1)
            await asyncio.sleep(0.005)


STRANGE = {
    "an empty list, as an expired token gives": (200, "[]", "2"),
    "nothing": (200, "", "2"),
    "null": (200, "null", "2"),
    "no JSON": (200, "<html>", "2"),
    "no list": (200, "7", "2"),
    "rows of another shape": (200, '[{"Service": null}]', "2"),
    "rows without checks": (200, json.dumps([{**row("a"), "Checks": None}]), "2"),
    "bytes that are no text": (200, b"\xff\xfe", "2"),
    "no index": (200, "[]", None),
    "index 0": (200, "[]", "0"),
    "no leader": (500, "No cluster leader", "2"),
    "forbidden": (403, "Permission denied", None),
    "not found": (404, "", None),
    "rate limited": (429, "", None),
    "a closed connection": (0, "", None),
}


@pytest.mark.parametrize("name", STRANGE)
async def test_no_answer_empties_the_set(name, tmp_path):
    agent, clock = Agent(STRANGE[name]), FakeClock()
    async with watched(agent, tmp_path, clock) as instances:
        await told(clock, agent.has_asked_again)
        assert [(i.id, i.address, i.is_passing) for i in instances.current] == [
            ("a", "10.0.0.1:7", True),
            ("b", "10.0.0.1:7", False),
        ]
        assert instances.is_stale


@pytest.mark.parametrize("index", [None, "0"])
async def test_an_answer_that_cannot_be_waited_upon_is_asked_for_once_a_second(index, tmp_path):
    agent, clock = Agent((200, "[]", index)), FakeClock()
    async with watched(agent, tmp_path, clock):
        await asyncio.sleep(0.1)
        assert len(agent.queries) <= 2


async def test_queries_are_answered_by_the_agents_cache_and_carry_the_token(tmp_path):
    agent, clock = Agent((200, "[]", "2")), FakeClock()
    async with watched(agent, tmp_path, clock, token="secret"):
        await told(clock, agent.has_asked_again)
    first, second = agent.queries[:2]
    assert "cached" in first.query
    assert "index" not in first.query
    assert (second.query["index"], second.query["wait"]) == ("1", "30s")
    assert first.headers["X-Consul-Token"] == "secret"


async def test_a_restart_without_an_agent_begins_with_the_last_known_instances(tmp_path):
    async with watched(Agent((200, "[]", "2")), tmp_path, FakeClock()):
        pass
    registry = ConsulRegistry(
        url="http://127.0.0.1:1", token="", clock=FakeClock(), snapshots=SnapshotStore(tmp_path), check_interval_s=1
    )
    instances = registry.watch("mesh-cache")
    assert ([i.id for i in instances.current], instances.is_stale) == (["a", "b"], True)
    await registry.close()
