"""What is written down about a running mesh: its ports, its model and its processes, in `<run dir>/state.json`."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from meshctl.local.ports import Ports

FILE_NAME = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """One process that `up` started. `identity` tells it from a later process with the same pid."""

    name: str
    pid: int
    identity: str
    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """One mesh. `operator` is the `meshctl up` in the foreground, absent once it has detached."""

    model: str
    registry: str
    ports: Ports
    processes: tuple[ProcessRecord, ...]
    operator: ProcessRecord | None = None
    is_ready: bool = False


def load_state(run_dir: Path) -> RunState | None:
    """None where no mesh was started, or what is written is from another version."""
    try:
        raw = json.loads((run_dir / FILE_NAME).read_text())
        return RunState(
            model=raw["model"],
            registry=raw["registry"],
            ports=Ports(**raw["ports"]),
            processes=tuple(ProcessRecord(**one) for one in raw["processes"]),
            operator=ProcessRecord(**raw["operator"]) if raw["operator"] else None,
            is_ready=raw["is_ready"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_state(run_dir: Path, state: RunState) -> None:
    """Replaces the file in one step, so that a reader never sees half of it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    unfinished = run_dir / f"{FILE_NAME}.{os.getpid()}"
    unfinished.write_text(json.dumps(asdict(state), indent=2))
    unfinished.replace(run_dir / FILE_NAME)


def forget_state(run_dir: Path) -> None:
    (run_dir / FILE_NAME).unlink(missing_ok=True)
