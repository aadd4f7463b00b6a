"""Identical requests at once over several routers: one generation, also when leader or flight are lost half-way."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
import valkey

from meshctl.local.ports import free_ports
from tests.support.local_mesh import LocalMesh
from tests.support.more_instances import Instance, another
from tests.support.single_flight import Crowd, generation_count

CALLERS = 60
TOKENS_PER_S = 40.0
MAX_TOKENS = 80


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_ports().router


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, metrics_port: int) -> Iterator[LocalMesh]:
    """A mesh whose engine echoes the prompt at a pace, so that there is time to kill things."""
    environment = {
        "MESH_INFERENCE_SERVER__METRICS_PORT": str(metrics_port),
        "MESH_INFERENCE_ENGINE__KIND": "echo",
        "MESH_INFERENCE_ENGINE__ECHO_TOKENS_PER_S": str(TOKENS_PER_S),
    }
    mesh = LocalMesh(tmp_path_factory.mktemp("flight") / "run", str(tiny_model), environment=environment)
    mesh.up("--prompt", "")
    yield mesh
    mesh.down()


@pytest.fixture
def routers(mesh: LocalMesh) -> Iterator[list[Instance]]:
    """Three beside the mesh's own, so that a test may kill any of them; and one more cache."""
    with (
        another(mesh, "cache"),
        another(mesh, "router") as first,
        another(mesh, "router") as second,
        another(mesh, "router") as third,
    ):
        yield [first, second, third]


@contextlib.asynccontextmanager
async def crowd(routers: list[Instance], text: str) -> AsyncIterator[Crowd]:
    addresses = [router.address for router in routers]
    async with Crowd.asking(addresses, text, callers=CALLERS, max_tokens=MAX_TOKENS) as asking:
        yield asking


async def test_identical_requests_over_three_routers_are_generated_once(
    routers: list[Instance], metrics_port: int
) -> None:
    before = await generation_count(metrics_port)
    async with crowd(routers, "the same question for all of them " * 3) as asking:
        answers = await asking.answers()
    assert not asking.failures
    assert len(answers) == CALLERS and len(set(answers)) == 1 and len(answers[0]) > 10
    assert await generation_count(metrics_port) - before == 1
    assert asking.led_count == 1


async def test_when_the_leading_router_is_killed_half_way_one_follower_goes_on_for_all(
    routers: list[Instance], metrics_port: int
) -> None:
    text = "a question whose first answerer is killed " * 3
    before = await generation_count(metrics_port)
    async with crowd(routers, text) as asking:
        leader = await asking.leader()
        await asking.everybody_has_some()
        pids = {one.address: one.process.pid for one in routers}
        os.kill(pids[leader], signal.SIGKILL)
        answers = await asking.answers()
    assert {address for address, _ in asking.failures} == {leader}, "only callers of the killed router notice"
    assert len(answers) == CALLERS - CALLERS // 3
    assert await generation_count(metrics_port) - before == 2, "the killed one, and one that went on for all"
    survivor = next(address for address in pids if address != leader)
    async with Crowd.asking([survivor], text, callers=1, max_tokens=MAX_TOKENS, uses_cache=False) as alone:
        (whole,) = await alone.answers()
    assert set(answers) == {whole}, "no gap, nothing twice"


async def test_when_the_shared_server_is_flushed_half_way_one_follower_generates_for_all(
    mesh: LocalMesh, routers: list[Instance], metrics_port: int
) -> None:
    before = await generation_count(metrics_port)
    url = psutil.Process(mesh.pid_of("cache")).environ()["MESH_CACHE_L2__URL"]
    async with crowd(routers, "a question whose flight is flushed away " * 3) as asking:
        await asking.everybody_has_some()
        with valkey.Valkey.from_url(url) as server:
            server.flushall()
        answers = await asking.answers()
    assert not asking.failures
    assert len(answers) == CALLERS and len(set(answers)) == 1
    assert await generation_count(metrics_port) - before == 2, "the leader for its own caller, one follower for all"
