"""`python -m benchmarks.console`: what one span costs the console in CPU and on the disk, and what it holds in memory.

One console process, spans of eight attributes in exports of 512, as our services send them, as fast as it answers.
CPU is that of the whole console process, gRPC included, from the first export until the last span is stored.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from benchmarks import report
from benchmarks.report import Claim, Options, at_most
from tests.support.otlp_spans import MadeSpan, export, set_attributes

CLAIMS = ("idle_memory", "cpu_per_span", "bytes_per_span", "loaded_memory", "waterfall_2000")
MEMORY_BAR_MB = 150
CPU_BAR_US = 35
BYTES_BAR = 400
PAGE_BAR_S = 1.0
EXPORT_SPANS = 512
SPANS_A_TRACE = 8
START_TIMEOUT_S = 30
ATTRIBUTES = {
    "rpc.system": "grpc", "rpc.method": "Generate", "mesh.tenant": "default", "gen_ai.request.model": "gemma3-270m",
    "gen_ai.usage.output_tokens": 128, "mesh.ttft_s": 0.217, "mesh.decision_id": "34d28e9a08c0", "mesh.attempt": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """A console process under measurement."""

    process: psutil.Process
    otlp_port: int
    http_port: int

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=30) as answer:
            return bytes(answer.read())

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/healthz"))
        return found

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    def memory_mb(self) -> float:
        return self.process.memory_info().rss / 1e6


def measure(options: Options) -> Iterator[Claim]:
    """The claims that were asked for; all come from one run."""
    return (claim for claim in _claims(options) if options.wants(claim.name))


def _claims(options: Options) -> Iterator[Claim]:
    """Start one console, fill it, look at it."""
    exports = 20 if options.is_smoke else 200
    with running_console() as console:
        yield at_most("idle_memory", console.memory_mb(), "MB", MEMORY_BAR_MB, "RSS before the first span")
        spans, cpu_s, wall_s = fill(console, exports)
        detail = f"{spans} spans, {spans / wall_s:,.0f} a second, sender included"
        yield at_most("cpu_per_span", cpu_s / spans * 1e6, "us", CPU_BAR_US, detail)
        yield at_most("bytes_per_span", console.health()["file_bytes"] / spans, "bytes", BYTES_BAR, "file and its log")
        yield at_most("loaded_memory", console.memory_mb(), "MB", MEMORY_BAR_MB, f"RSS after {spans} spans")
        yield at_most("waterfall_2000", waterfall_s(console), "s", PAGE_BAR_S, "page of a trace of 2,000 spans")


def fill(console: Console, exports: int) -> tuple[int, float, float]:
    """Spans stored, CPU seconds of the console, seconds that passed."""
    payloads = [_payload(number) for number in range(exports)]
    with grpc.insecure_channel(f"127.0.0.1:{console.otlp_port}") as channel:
        send: Any = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        cpu_s, began_at = console.cpu_s(), time.monotonic()
        for number, payload in enumerate(payloads, start=1):
            send(payload, timeout=10)
            if number % 8 == 0:
                _wait_for_queue(console, below=8 * EXPORT_SPANS)
        _wait_for_queue(console, below=1)
        health = console.health()
        return health["stored"], console.cpu_s() - cpu_s, time.monotonic() - began_at


def waterfall_s(console: Console) -> float:
    """Seconds to fetch the page of a trace of 2,000 spans, the best of three."""
    trace = 10**9
    made = [MadeSpan(trace=trace, span=n, parent=n // 2, start_ms=n, tags=ATTRIBUTES) for n in range(1, 2001)]
    with grpc.insecure_channel(f"127.0.0.1:{console.otlp_port}") as channel:
        trace_service_pb2_grpc.TraceServiceStub(channel).Export(export(*made), timeout=10)
    _wait_for_queue(console, below=1)
    return min(_timed(console, f"/trace/{trace:x}") for _ in range(3))


@contextmanager
def running_console() -> Iterator[Console]:
    """A console of its own process, with its file in a temporary folder."""
    otlp_port, http_port = _free_port(), _free_port()
    with tempfile.TemporaryDirectory() as scratch:
        settings = {
            "MESH_CONSOLE_SERVER__PORT": str(otlp_port),
            "MESH_CONSOLE_HTTP__PORT": str(http_port),
            "MESH_CONSOLE_REGISTRY__KIND": "none",
            "MESH_CONSOLE_STORE__PATH": str(Path(scratch) / "traces.db"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        started = subprocess.Popen([sys.executable, "-m", "services.console"], env={**os.environ, **settings},
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            console = Console(process=psutil.Process(started.pid), otlp_port=otlp_port, http_port=http_port)
            _wait_until_up(console)
            yield console
        finally:
            started.terminate()
            started.wait(10)


def _payload(number: int) -> bytes:
    """One export: a resource, a scope, 512 spans of 64 traces."""
    first = number * EXPORT_SPANS // SPANS_A_TRACE + 1
    request = export(*(_span(first + n // SPANS_A_TRACE, n % SPANS_A_TRACE + 1) for n in range(EXPORT_SPANS)))
    spans = [rs.scope_spans[0].spans[0] for rs in request.resource_spans]
    shared = export(MadeSpan())
    del shared.resource_spans[0].scope_spans[0].spans[:]
    for span in spans:
        set_attributes(span.attributes, ATTRIBUTES)
        shared.resource_spans[0].scope_spans[0].spans.append(span)
    return shared.SerializeToString()


def _span(trace: int, span: int) -> MadeSpan:
    return MadeSpan(trace=trace, span=span, parent=span - 1, operation=f"mesh.router.v1.RouterService/Step{span}")


def _wait_for_queue(console: Console, *, below: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        health = console.health()
        if health["received"] - health["stored"] - sum(health["dropped"].values()) < below:
            return
        time.sleep(0.05)
    sys.exit("the console did not keep up")


def _wait_until_up(console: Console) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            console.health()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    sys.exit("the console did not start")


def _timed(console: Console, path: str) -> float:
    began_at = time.monotonic()
    console.get(path)
    return time.monotonic() - began_at


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    report.run("console", "What the console costs.", CLAIMS, measure)
