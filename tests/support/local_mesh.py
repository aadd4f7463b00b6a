"""A whole mesh on free ports, started and stopped through `meshctl` exactly as an operator would."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from meshctl.local.processes import RUN_VARIABLE

UP_TIMEOUT_S = 600.0
COMMAND_TIMEOUT_S = 120.0
MESHCTL = (sys.executable, "-m", "meshctl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its output as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def meshctl(
    *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S, stdin: str = "", settings: Mapping[str, str] | None = None
) -> Done:
    """Runs one command to its end. `settings`: MESH_<SERVICE>_... variables for the services that it starts."""
    done = subprocess.run(
        [*MESHCTL, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**environment(), **(settings or {})},
    )
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


def environment() -> dict[str, str]:
    """Without what an outer mesh or shell may have set."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MESH_", RUN_VARIABLE))}


class LocalMesh:
    """One mesh in its own run directory."""

    def __init__(self, run_dir: Path, model: str, *, environment: Mapping[str, str] | None = None) -> None:
        """`environment`: settings of services, over those of deploy/local."""
        self.run_dir = run_dir.resolve()
        self._settings = environment or {}
        self.model = model
        self.facts: dict[str, Any] = {}

    @property
    def router(self) -> str:
        return str(self.facts["router"])

    @property
    def engine(self) -> str:
        """`host:port` of the inference instance."""
        return f"127.0.0.1:{self.facts['ports']['inference']}"

    @property
    def console(self) -> str:
        return str(self.facts["console"])

    def up(self, *arguments: str) -> None:
        """Returns once it is ready. Raises AssertionError with what `up` said."""
        done = self.run(
            "up", "--model", self.model, "--free-ports", "--detach", "--skip-checks", "--json", *arguments,
            timeout_s=UP_TIMEOUT_S,
        )  # fmt: skip
        assert done.code == 0, done.err
        self.facts = json.loads(done.out)

    def down(self) -> None:
        done = self.run("down")
        assert done.code == 0, done.err

    def run(self, command: str, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S, stdin: str = "") -> Done:
        return meshctl(
            command,
            "--run-dir",
            str(self.run_dir),
            *arguments,
            timeout_s=timeout_s,
            stdin=stdin,
            settings=self._settings,
        )

    def pid_of(self, name: str) -> int:
        return next(int(one["pid"]) for one in self.facts["processes"] if one["name"] == name)

    def processes(self) -> list[str]:
        """Every process of this mesh, engine ranks included, by the mark in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get(RUN_VARIABLE) == str(self.run_dir)
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
            except psutil.Error:
                continue
        return found
