"""`python -m benchmarks.router`: router overhead, 200 streams at once, idle memory.

A whole mesh as `meshctl up` starts it (Consul, Valkey, console, cache, compressor, router; traces on), with the echo
engine in the model's place. This process is the caller, so it and the mesh share the machine's cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import report
from benchmarks.report import Claim, Options
from benchmarks.router.memory import idle_memory
from benchmarks.router.overhead import overhead
from benchmarks.router.streams import concurrent_streams
from tests.support.local_mesh import LocalMesh
from tests.support.tiny_model import make_tiny_model

CLAIMS = ("overhead_p50", "overhead_ttft_p50", "idle_memory", "late_tokens")
PACED_TOKENS_PER_S = 5.0


def measure(options: Options) -> Iterator[Claim]:
    """Two meshes: one whose engine answers at once, one whose engine keeps a pace."""
    with tempfile.TemporaryDirectory() as scratch:
        model = make_tiny_model(Path(scratch) / "tiny")
        if options.wants("overhead_p50") or options.wants("overhead_ttft_p50") or options.wants("idle_memory"):
            with echo_mesh(Path(scratch) / "at-once", model, tokens_per_s=0) as mesh:
                if options.wants("idle_memory"):
                    yield from idle_memory(mesh.facts)
                yield from asyncio.run(overhead(mesh.router, mesh.engine, options))
        if options.wants("late_tokens"):
            with echo_mesh(Path(scratch) / "paced", model, tokens_per_s=PACED_TOKENS_PER_S) as mesh:
                yield from asyncio.run(concurrent_streams(mesh.router, mesh.engine, PACED_TOKENS_PER_S, options))


@contextlib.contextmanager
def echo_mesh(run_dir: Path, model: Path, *, tokens_per_s: float) -> Iterator[LocalMesh]:
    """A local mesh with the echo engine, for the length of a block."""
    environment = {
        "MESH_INFERENCE_ENGINE__KIND": "echo",
        "MESH_INFERENCE_ENGINE__ECHO_TOKENS_PER_S": str(tokens_per_s),
    }
    mesh = LocalMesh(run_dir, str(model), environment=environment)
    mesh.up("--prompt", "")
    try:
        yield mesh
    finally:
        mesh.down()


if __name__ == "__main__":
    report.run("router", "What the router costs in front of an engine that answers at once.", CLAIMS, measure)
