"""Real services and a real Consul agent that is killed, emptied and frozen under them."""

import asyncio
import contextlib
import json
import shutil
import time
import urllib.request
from typing import Any

import grpc
import pytest

from mesh.cache.v1 import cache_service_pb2_grpc as cache_grpc
from meshkit.clock import SystemClock
from meshkit.registry import InstanceSet, Registration
from meshkit.registry.consul import ConsulRegistry
from meshkit.registry.snapshot import SnapshotStore
from meshkit.server import Server
from meshkit.testing import test_chassis
from meshkit.testing.consul import ConsulAgent
from tests.support.probe_service import Probe, asked_for, loopback

SOON_S = 1.0
CHECKED_S = 4.0
"""The floor of Consul's check interval is 1 s; the rest is for a busy machine."""
REGISTERED_AGAIN_S = 8.0
"""Five seconds between confirmations, one for the agent, two for a busy machine."""


def registry_at(url: str, folder) -> ConsulRegistry:
    return ConsulRegistry(url=url, token="", clock=SystemClock(), snapshots=SnapshotStore(folder), check_interval_s=1)


@contextlib.asynccontextmanager
async def registry_of(agent: ConsulAgent, folder):
    registry = registry_at(agent.url, folder)
    try:
        yield registry
    finally:
        await registry.deregister()
        await registry.close()


def registration(name: str) -> Registration:
    return Registration(id=name, service="mesh-cache", host="127.0.0.1", port=7, grpc_name="x")


async def until(holds, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.02)


def ids(instances: InstanceSet) -> list[str]:
    return [instance.id for instance in instances.current]


def checks_of(agent: ConsulAgent) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{agent.url}/v1/agent/checks", timeout=2) as reply:
        return list(json.loads(reply.read()).values())


async def test_the_agents_own_health_check_passes_and_follows_the_services_health(agent, tmp_path):
    async with registry_of(agent, tmp_path / "service") as own, registry_of(agent, tmp_path / "watcher") as watcher:
        settings = loopback()
        chassis = test_chassis(settings, Probe, registry=own)
        server = Server(settings, chassis, Probe())
        await server.start()
        instances = watcher.watch("mesh-cache")
        await asyncio.wait_for(instances.non_empty(), SOON_S)
        async with asyncio.timeout(CHECKED_S):
            while "success" not in (checks := await asyncio.to_thread(checks_of, agent))[0]["Output"]:
                await asyncio.sleep(0.1)
        assert checks[0]["Status"] == "passing"
        await chassis.health.set_serving(False)
        await until(lambda: not instances.current[0].is_passing, CHECKED_S)
        await chassis.health.set_serving(True)
        await until(lambda: instances.current[0].is_passing, CHECKED_S)
        begun = time.monotonic()
        await server.drain()
        assert time.monotonic() - begun < 2
        await until(lambda: instances.is_stale, SOON_S)
        await server.close()


async def test_while_the_agent_is_dead_the_last_known_stay_and_calls_go_on(agent, tmp_path):
    async with registry_of(agent, tmp_path / "service") as own, registry_of(agent, tmp_path / "watcher") as watcher:
        settings = loopback()
        server = Server(settings, test_chassis(settings, Probe, registry=own), Probe())
        await server.start()
        instances = watcher.watch("mesh-cache")
        (instance,) = await asyncio.wait_for(instances.non_empty(), SOON_S)
        agent.kill()
        await until(lambda: instances.is_stale, SOON_S)
        async with grpc.aio.insecure_channel(instance.address) as channel:
            assert await cache_grpc.CacheServiceStub(channel).Lookup(asked_for("x"), timeout=5)
        assert instances.current == (instance,)
        await agent.start()
        await until(lambda: not instances.is_stale, REGISTERED_AGAIN_S)
        assert ids(instances) == [instance.id]
        begun = time.monotonic()
        agent.kill()
        await server.close()
        assert time.monotonic() - begun < 2


async def test_an_agent_that_forgot_everything_is_told_again(agent, tmp_path):
    async with registry_of(agent, tmp_path / "service") as own, registry_of(agent, tmp_path / "watcher") as watcher:
        await own.register(registration("a"))
        instances = watcher.watch("mesh-cache")
        await asyncio.wait_for(instances.non_empty(), SOON_S)
        agent.kill()
        shutil.rmtree(agent._directory / "state")
        await agent.start()
        assert await asyncio.to_thread(checks_of, agent) == []
        await until(lambda: not instances.is_stale, REGISTERED_AGAIN_S)
        assert len(await asyncio.to_thread(checks_of, agent)) == 1
        assert ids(instances) == ["a"]


async def test_a_service_that_starts_before_the_agent_is_registered_once_there_is_one(agent, tmp_path):
    agent.kill()
    async with registry_of(agent, tmp_path / "service") as own, registry_of(agent, tmp_path / "watcher") as watcher:
        begun = time.monotonic()
        await own.register(registration("a"))
        assert time.monotonic() - begun < SOON_S
        instances = watcher.watch("mesh-cache")
        assert instances.is_stale
        await agent.start()
        await asyncio.wait_for(instances.non_empty(), REGISTERED_AGAIN_S)
        assert not instances.is_stale


async def test_a_watcher_that_restarts_while_the_agent_is_dead_knows_its_peers(agent, tmp_path):
    async with registry_of(agent, tmp_path / "service") as own:
        await own.register(registration("a"))
        async with registry_of(agent, tmp_path / "watcher") as watcher:
            await asyncio.wait_for(watcher.watch("mesh-cache").non_empty(), SOON_S)
        agent.kill()
        async with registry_of(agent, tmp_path / "watcher") as restarted:
            instances = restarted.watch("mesh-cache")
            assert (ids(instances), instances.is_stale) == (["a"], True)
            await agent.start()
            await until(lambda: not instances.is_stale, REGISTERED_AGAIN_S)


@pytest.mark.parametrize(("step", "bound_s"), [("register", 6), ("deregister", 3)])
async def test_a_frozen_agent_holds_nobody_for_more_than_some_seconds(agent, tmp_path, step, bound_s):
    async with registry_of(agent, tmp_path) as registry:
        if step == "deregister":
            await registry.register(registration("a"))
        agent.pause()
        begun = time.monotonic()
        await (registry.register(registration("a")) if step == "register" else registry.deregister())
        assert time.monotonic() - begun < bound_s
        agent.resume()
