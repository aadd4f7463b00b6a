"""Which processes make a local mesh, with which commands and settings, in which order they start and stop."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meshctl.local.ports import LOOPBACK, Ports
from meshkit.consul_agent import ConsulPorts, consul_command
from meshkit.valkey_binary import valkey_binary, valkey_command

ROOT = Path(__file__).resolve().parents[2]
VALKEY_MEMORY_BYTES = 256 * 1024**2
START_TIMEOUT_S = 60.0
# The first start converts the model and compiles the shared-memory all-reduce.
INFERENCE_START_TIMEOUT_S = 900.0
DRAIN_TIMEOUT_S = 10.0
# Nobody loses a call in flight: the door closes first, what the others need goes last.
STOP_ORDER = (("router",), ("inference", "compressor", "cache"), ("console", "valkey", "consul"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPlan:
    """One process to start."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    start_timeout_s: float = START_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPlan:
    """One mesh to start."""

    run_dir: Path
    cache_dir: Path
    ports: Ports
    model_source: str
    model_name: str
    consul_binary: Path | None
    """None: the file registry stands in."""
    tensor_parallel_size: int
    """0: the engine decides, two ranks where there are two cores or GPUs."""

    @property
    def registry(self) -> str:
        return "consul" if self.consul_binary else "file"

    @property
    def consul_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.consul}"

    @property
    def console_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.console}"


def backends(plan: MeshPlan) -> tuple[ProcessPlan, ...]:
    """What the services need to be up before them."""
    return (*_consul(plan), _valkey(plan))


def services(plan: MeshPlan) -> tuple[ProcessPlan, ...]:
    """The services proper; they may start in any order, since each waits for those that it needs."""
    return (
        _service(plan, "console", _console_settings(plan)),
        _service(plan, "cache", _cache_settings(plan)),
        _service(plan, "compressor", {}),
        _service(plan, "inference", _inference_settings(plan), INFERENCE_START_TIMEOUT_S),
        _service(plan, "router", {}),
    )


def _consul(plan: MeshPlan) -> tuple[ProcessPlan, ...]:
    if plan.consul_binary is None:
        return ()
    ports = ConsulPorts(http=plan.ports.consul, server=plan.ports.consul_server, serf=plan.ports.consul_serf)
    command = consul_command(plan.consul_binary, data_dir=plan.run_dir / "consul", ports=ports)
    return (ProcessPlan(name="consul", command=tuple(command)),)


def _valkey(plan: MeshPlan) -> ProcessPlan:
    data_dir = plan.run_dir / "valkey"
    data_dir.mkdir(parents=True, exist_ok=True)
    command = valkey_command(
        valkey_binary(), port=plan.ports.valkey, data_dir=data_dir, memory_bytes=VALKEY_MEMORY_BYTES
    )
    return ProcessPlan(name="valkey", command=tuple(command))


def _service(
    plan: MeshPlan, name: str, settings: Mapping[str, str], start_timeout_s: float = START_TIMEOUT_S
) -> ProcessPlan:
    """Settings of this run go over those of deploy/local/<name>.toml as environment variables."""
    prefix = f"MESH_{name.upper()}_"
    merged = {**_common_settings(plan, name), **settings}
    return ProcessPlan(
        name=name,
        command=(sys.executable, "-m", f"services.{name}", "--config", str(config_path(name))),
        environment={f"{prefix}{key}": value for key, value in merged.items()},
        start_timeout_s=start_timeout_s,
    )


def config_path(name: str) -> Path:
    return ROOT / "deploy" / "local" / f"{name}.toml"


def _common_settings(plan: MeshPlan, name: str) -> dict[str, str]:
    return {
        "SERVER__PORT": str(plan.ports.otlp if name == "console" else plan.ports.named()[name]),
        "SERVER__DRAIN_TIMEOUT_S": str(DRAIN_TIMEOUT_S),
        "REGISTRY__KIND": plan.registry,
        "REGISTRY__CONSUL_URL": plan.consul_url,
        "REGISTRY__FILE_PATH": str(plan.run_dir / "registry"),
        "REGISTRY__SNAPSHOT_DIR": str(plan.run_dir / "snapshots" / name),
        "TELEMETRY__OTLP_ENDPOINT": f"{LOOPBACK}:{plan.ports.otlp}",
    }


def _cache_settings(plan: MeshPlan) -> dict[str, str]:
    return {
        "L2__URL": f"valkey://{LOOPBACK}:{plan.ports.valkey}/0",
        "L3__DIRECTORY": str(plan.run_dir / "cache"),
    }


def _console_settings(plan: MeshPlan) -> dict[str, str]:
    return {
        "HTTP__PORT": str(plan.ports.console),
        "STORE__PATH": str(plan.run_dir / "console" / "traces.db"),
        "TELEMETRY__OTLP_ENDPOINT": "",  # the console does not trace itself
    }


def _inference_settings(plan: MeshPlan) -> dict[str, str]:
    return {
        "MODEL__SOURCE": plan.model_source,
        "MODEL__NAME": plan.model_name,
        "MODEL__CACHE_DIR": str(plan.cache_dir / "models"),
        "ENGINE__TENSOR_PARALLEL_SIZE": str(plan.tensor_parallel_size),
    }
