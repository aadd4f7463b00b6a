"""`python -m benchmarks.start`: seconds from `meshctl up` to ready, with everything cached, and to leave no process.

The demo model as `make up` would take it, real engine, real Consul and Valkey, on free ports. A first start fills the
caches and is not counted.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import report
from benchmarks.report import Claim, Options, at_most
from tests.support.local_mesh import LocalMesh

CLAIMS = ("second_start", "stop")
MODEL = "packaged:gemma3-270m"
START_BAR_S = 45
STOP_BAR_S = 15
REPETITIONS = 3


def measure(options: Options) -> Iterator[Claim]:
    """Start and stop the same mesh several times."""
    starts, stops = [], []
    with tempfile.TemporaryDirectory() as scratch:
        mesh = LocalMesh(Path(scratch) / "run", MODEL)
        for _ in range(2 if options.is_smoke else 1 + REPETITIONS):
            starts.append(_timed(lambda: mesh.up("--prompt", "")))
            stops.append(_timed(mesh.down))
    counted = starts[1:]
    detail = f"median of {', '.join(f'{s:.1f}' for s in counted)} s; first start here {starts[0]:.1f} s"
    yield at_most("second_start", statistics.median(counted), "s", START_BAR_S, detail)
    yield at_most("stop", statistics.median(stops), "s", STOP_BAR_S, f"most {max(stops):.1f} s")


def _timed(work: Callable[[], None]) -> float:
    began_at = time.monotonic()
    work()
    return time.monotonic() - began_at


if __name__ == "__main__":
    report.run("start", "How long a mesh takes to start and to stop.", CLAIMS, measure)
