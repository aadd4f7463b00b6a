"""The console as it runs: OTLP in on one port, Jaeger's JSON and pages out on the other, whatever the disk does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from prometheus_client import CollectorRegistry

from meshkit.chassis import Chassis
from meshkit.settings import ServerSettings, TelemetrySettings
from meshkit.telemetry.tracing import Tracing
from meshkit.testing import running_server
from services.console.app import ConsoleService, build
from services.console.settings import ConsoleSettings, HttpSettings, IntakeSettings, StoreSettings
from tests.support.otlp_spans import MadeSpan, export, generate_trace

TRACE_1 = f"{1:032x}"


@dataclass(frozen=True, kw_only=True)
class Console:
    """A running console and ways to talk to it."""

    address: str
    http: aiohttp.ClientSession
    otlp: grpc.aio.Channel
    chassis: Chassis
    path: Path

    async def export(self, *made: MadeSpan) -> trace_service_pb2.ExportTraceServiceResponse:
        stub = trace_service_pb2_grpc.TraceServiceStub(self.otlp)
        return await stub.Export(export(*made), timeout=5)

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.http.get(path, headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    async def settled(self) -> dict[str, Any]:
        """`/healthz` once every span that arrived was stored or dropped."""
        async with asyncio.timeout(10):
            while True:
                health: dict[str, Any] = (await self.get("/healthz"))[1]
                if health["stored"] + sum(health["dropped"].values()) >= health["received"]:
                    return health
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def console_at(path: Path, **intake: Any) -> AsyncIterator[Console]:
    settings = ConsoleSettings(
        server=ServerSettings(port=0),
        http=HttpSettings(port=0),
        store=StoreSettings(path=path),
        intake=IntakeSettings(flush_interval_s=0.01, **intake),
    )
    made: list[tuple[ConsoleService, Chassis]] = []

    def build_and_keep(settings: ConsoleSettings, chassis: Chassis) -> ConsoleService:
        made.append((build(settings, chassis), chassis))
        return made[0][0]

    async with running_server(settings, build_and_keep, ConsoleService) as address:
        service, chassis = made[0]
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{service.http_port}") as http,
            grpc.aio.insecure_channel(address) as otlp,
        ):
            yield Console(address=address, http=http, otlp=otlp, chassis=chassis, path=path)


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with console_at(tmp_path / "traces.db") as running:
        yield running


async def test_what_is_exported_is_found_through_jaegers_api(console: Console) -> None:
    response = await console.export(*generate_trace(1))
    assert not response.HasField("partial_success")
    await console.settled()
    status, services = await console.get("/api/services")
    assert (status, services["data"]) == (200, ["cache", "compressor", "inference", "router"])
    assert services == {"data": services["data"], "total": 4, "limit": 0, "offset": 0, "errors": None}
    assert (await console.get("/api/services/inference/operations"))[1]["data"] == ["Generate", "decode"]
    assert (await console.get("/api/operations?service=inference&spanKind=internal"))[1]["data"] == [
        {"name": "decode", "spanKind": "internal"}
    ]
    _, one = await console.get(f"/api/traces/{TRACE_1}")
    _, short = await console.get("/api/traces/1")
    _, found = await console.get(
        "/api/traces?service=cache&operation=Lookup&start=1&limit=5&minDuration=1ms&tags=%7B%7D"
    )
    _, by_id = await console.get(f"/api/traces?traceID={TRACE_1}&traceID=2")
    assert one == short == found == by_id
    assert len(one["data"][0]["spans"]) == 6
    _, calls = await console.get("/api/dependencies?endTs=1800000000000&lookback=200000000000")
    assert {"parent": "router", "child": "cache", "callCount": 1} in calls["data"]


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/api/traces/abc", 404, "trace not found"),
        ("/api/traces/xyz", 400, "hexadecimal"),
        ("/api/traces?limit=x", 400, "limit"),
        ("/api/traces?service=a&tags=%7B", 400, "tags"),
        ("/api/operations", 400, "service"),
        ("/api/dependencies?endTs=x", 400, "endTs"),
        ("/api/nowhere", 404, "/api/nowhere"),
    ],
)
async def test_errors_have_jaegers_form(console: Console, path: str, code: int, message: str) -> None:
    await console.export(MadeSpan())
    await console.settled()
    status, body = await console.get(path)
    assert (status, body["data"], body["errors"][0]["code"]) == (code, None, code)
    assert message in body["errors"][0]["msg"]


async def test_pages_are_served_with_their_policy_and_show_the_trace(console: Console) -> None:
    await console.export(*generate_trace(1), MadeSpan(trace=1, span=9, parent=77))
    await console.settled()
    async with console.http.get("/?lookback=7d&service=router") as response:
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    _, page = await console.get(f"/trace/{TRACE_1}")
    assert page.count("<details") == 7
    assert "orphan" in page
    _, jumped = await console.get("/trace?id=1")
    assert jumped.count("<details") == 7
    for path, status in (("/trace/2", 404), ("/trace/zz", 400), ("/?minDuration=x", 400), ("/nowhere", 404)):
        assert (await console.get(path))[0] == status


async def test_the_list_of_traces_is_filtered_by_its_form(console: Console) -> None:
    start_ns = int(console.chassis.clock.wall() * 1e9) - 1_000_000_000
    await console.export(
        MadeSpan(trace=1, start_ns=start_ns, tags={"who": "first one"}), MadeSpan(trace=2, error="e", start_ns=start_ns)
    )
    await console.settled()
    for form, shown in (("", 2), ("errors=1", 1), ("tags=who%3D%22first+one%22", 1), ("operation=none", 0)):
        status, page = await console.get(f"/?{form}")
        assert (status, page.count('href="/trace/') // 2) == (200, shown)


async def test_a_foreign_host_name_is_refused_on_loopback(console: Console) -> None:
    assert (await console.get("/", Host="evil.example"))[0] == 403
    assert (await console.get("/api/services", Host="evil.example:16686"))[0] == 403
    assert (await console.get("/healthz", Host="localhost:16686"))[0] == 200


async def test_spans_that_cannot_be_kept_are_told_in_partial_success_and_counted(console: Console) -> None:
    request = export(MadeSpan(span=1), MadeSpan(span=2))
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
    response = await trace_service_pb2_grpc.TraceServiceStub(console.otlp).Export(request, timeout=5)
    assert response.partial_success.rejected_spans == 1
    assert "16 bytes" in response.partial_success.error_message
    health = await console.settled()
    assert (health["received"], health["stored"], health["dropped"]) == (2, 1, {"invalid": 1})


async def test_a_full_queue_is_told_in_partial_success(tmp_path: Path) -> None:
    async with console_at(tmp_path / "traces.db", queue_spans=5) as console:
        response = await console.export(*(MadeSpan(span=n) for n in range(1, 11)))
        assert response.partial_success.rejected_spans == 5
        assert "queue is full" in response.partial_success.error_message
        health = await console.settled()
        assert (health["stored"], health["dropped"]) == (5, {"queue_full": 5})
        registry = console.chassis.metrics_registry
        assert registry.get_sample_value("mesh_console_spans_dropped_total", {"reason": "queue_full"}) == 5
        assert registry.get_sample_value("mesh_console_spans_received_total") == 10
        assert registry.get_sample_value("mesh_console_spans_stored_total") == 5


async def test_metrics_and_logs_are_answered_and_said_to_be_refused(console: Console) -> None:
    metrics = metrics_service_pb2.ExportMetricsServiceRequest()
    gauge = metrics.resource_metrics.add().scope_metrics.add().metrics.add().gauge
    gauge.data_points.add(), gauge.data_points.add()
    answer = await metrics_service_pb2_grpc.MetricsServiceStub(console.otlp).Export(metrics, timeout=5)
    assert answer.partial_success.rejected_data_points == 2
    logs = logs_service_pb2.ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add()
    answer = await logs_service_pb2_grpc.LogsServiceStub(console.otlp).Export(logs, timeout=5)
    assert answer.partial_success.rejected_log_records == 1


async def test_garbage_is_answered_with_invalid_argument_and_the_console_lives_on(console: Console) -> None:
    call: Any = console.otlp.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"\xff\xff\xff garbage", timeout=5)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await console.export(MadeSpan())
    assert (await console.settled())["stored"] == 1


async def test_grpc_health_says_serving(console: Console) -> None:
    stub = health_pb2_grpc.HealthStub(console.otlp)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=ConsoleService.grpc_name), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_real_exporter_is_received_and_receiving_makes_no_spans(console: Console) -> None:
    sender = Tracing(
        TelemetrySettings(otlp_endpoint=console.address), service="sender", instance_id="s-1", version="1",
        metrics_registry=CollectorRegistry(),
    )  # fmt: skip
    for _ in range(20):
        with sender.tracer.start_as_current_span("work") as span:
            span.add_event("first_token", {"n": 1})
    await asyncio.to_thread(sender.flush)
    assert (await console.settled())["stored"] == 20
    assert (await console.get("/api/services"))[1]["data"] == ["sender"]
    await asyncio.to_thread(sender.shutdown)


async def test_a_disk_that_refuses_costs_spans_and_nothing_else(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    async with console_at(in_the_way / "traces.db") as console:
        await console.export(*generate_trace(1))
        health = await console.settled()
        assert (health["status"], health["dropped"]) == ("degraded", {"disk": 6})
        assert (await console.get("/api/services"))[0] == 503
        assert (await console.get("/"))[0] == 503
        stub = health_pb2_grpc.HealthStub(console.otlp)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_damaged_file_met_by_a_reader_is_replaced_while_serving(console: Console) -> None:
    await console.export(*(MadeSpan(trace=t, span=s, tags={"t": "x" * 300}) for t in range(1, 60) for s in range(1, 9)))
    await console.settled()
    console.path.with_name("traces.db-wal").write_bytes(b"")
    console.path.write_bytes(b"\xa5" * 200_000)
    assert (await console.get("/api/services"))[0] == 503
    await console.export(*generate_trace(1))
    await console.settled()
    assert (await console.get("/api/traces/1"))[0] == 200
    assert list(console.path.parent.glob("*.unusable-*"))


_FULL_DISK = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
sys.argv = ["console"]
runpy.run_module("services.console", run_name="__main__")
"""


@contextlib.asynccontextmanager
async def console_process(path: Path, *start: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, int]]:
    """A console of its own process: the process, its OTLP port, its HTTP port."""
    otlp_port, http_port = free_port(), free_port()
    settings = {
        "MESH_CONSOLE_SERVER__PORT": str(otlp_port),
        "MESH_CONSOLE_HTTP__PORT": str(http_port),
        "MESH_CONSOLE_STORE__PATH": str(path),
        "MESH_CONSOLE_REGISTRY__KIND": "none",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, *start, env={**os.environ, **settings}, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until_healthy(http_port)
        yield process, otlp_port, http_port
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until_healthy(http_port: int) -> None:
    async with asyncio.timeout(20), aiohttp.ClientSession() as http:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"http://127.0.0.1:{http_port}/healthz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)


async def health_of(http_port: int) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{http_port}/healthz") as response:
        return await response.json()


async def until_accounted(http_port: int, received: int) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            health = await health_of(http_port)
            if health["received"] >= received <= health["stored"] + sum(health["dropped"].values()):
                return health
            await asyncio.sleep(0.02)


async def send(otlp_port: int, *made: MadeSpan) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{otlp_port}") as channel:
        await trace_service_pb2_grpc.TraceServiceStub(channel).Export(export(*made), timeout=5)


async def test_traces_outlive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    async with console_process(path, "-m", "services.console") as (process, otlp_port, http_port):
        await send(otlp_port, *generate_trace(1))
        await until_accounted(http_port, 6)
        process.send_signal(signal.SIGKILL)
    async with console_at(path) as console:
        assert len((await console.get("/api/traces/1"))[1]["data"][0]["spans"]) == 6


async def test_sigterm_writes_what_is_queued_and_ends_with_status_0(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    async with console_process(path, "-m", "services.console") as (process, otlp_port, _):
        await send(otlp_port, *generate_trace(1))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    async with console_at(path) as console:
        assert (await console.get("/api/traces/1"))[0] == 200


async def test_a_full_disk_costs_spans_and_nothing_else(tmp_path: Path) -> None:
    async with console_process(tmp_path / "traces.db", "-c", _FULL_DISK) as (process, otlp_port, http_port):
        await send(otlp_port, *generate_trace(100))
        await until_accounted(http_port, 6)
        for trace in range(1, 21):
            await send(otlp_port, *(MadeSpan(trace=trace, span=s, tags={"t": "x" * 1000}) for s in range(1, 51)))
        health = await until_accounted(http_port, 1006)
        assert health["stored"] >= 6
        assert sum(health["dropped"].values()) > 0
        assert process.returncode is None
