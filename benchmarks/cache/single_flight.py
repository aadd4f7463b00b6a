"""500 identical requests at once over three router processes and two caches: how often an engine generates.

A whole mesh of real processes, as `meshctl up` starts it, with the echo engine at a pace in the model's place, so that
there is time to kill the leading router half-way. All answers must be the whole answer; callers of the killed router
get an error, and nobody else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.report import Claim, Options, at_most
from meshctl.local.ports import free_ports
from tests.support.local_mesh import LocalMesh
from tests.support.more_instances import another
from tests.support.single_flight import Crowd, generation_count
from tests.support.tiny_model import make_tiny_model

ONCE, KILLED = "single_flight_generations", "single_flight_generations_leader_killed"
CLAIMS = (ONCE, KILLED)
CALLERS, SMOKE_CALLERS = 500, 30
TOKENS_PER_S = 10.0
MAX_TOKENS = 100


def single_flight(options: Options) -> Iterator[Claim]:
    """Generations beyond what is needed: one, and one more where the leader is killed."""
    callers = SMOKE_CALLERS if options.is_smoke else CALLERS
    metrics_port = free_ports().router
    environment = {
        "MESH_INFERENCE_SERVER__METRICS_PORT": str(metrics_port),
        "MESH_INFERENCE_ENGINE__KIND": "echo",
        "MESH_INFERENCE_ENGINE__ECHO_TOKENS_PER_S": str(TOKENS_PER_S),
    }
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        model = make_tiny_model(Path(scratch) / "tiny")
        mesh = LocalMesh(Path(scratch) / "run", str(model), environment=environment)
        mesh.up("--prompt", "")
        stack.callback(mesh.down)
        stack.enter_context(another(mesh, "cache"))
        more = [stack.enter_context(another(mesh, "router")) for _ in range(2)]
        pids = {mesh.router: mesh.pid_of("router"), **{router.address: router.process.pid for router in more}}
        for name in CLAIMS:
            if options.wants(name):
                yield asyncio.run(_claim(name, pids, metrics_port, callers))


async def _claim(name: str, pids: dict[str, int], metrics_port: int, callers: int) -> Claim:
    before = await generation_count(metrics_port)
    text = f"one question for all, {name} " * 4
    leader = ""
    async with Crowd.asking(list(pids), text, callers=callers, max_tokens=MAX_TOKENS) as crowd:
        if name == KILLED:
            leader = await crowd.leader()
            await crowd.everybody_has_some()
            os.kill(pids[leader], signal.SIGKILL)
        answers = await crowd.answers()
        lost = [failure for failure in crowd.failures if failure[0] != leader]
    generated = await generation_count(metrics_port) - before
    async with Crowd.asking(
        [address for address in pids if address != leader][:1], text, callers=1, max_tokens=MAX_TOKENS, uses_cache=False
    ) as alone:
        (whole,) = await alone.answers()
    right = sum(answer == whole for answer in answers)
    detail = (
        f"{callers} callers over {len(pids)} routers: {right} of {len(answers)} answers whole and right, "
        f"{len(crowd.failures) - len(lost)} callers of the killed router got an error, {len(lost)} others"
    )
    wrong = len(answers) - right + len(lost)
    return at_most(name, generated + wrong, "generations", 2 if name == KILLED else 1, detail)
