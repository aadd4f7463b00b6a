"""A second "host" for tests: the inference service's own command with `nodes.rank` over 0, in its own process tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from services.inference.models.store import resolve
from tests.support.engine_process import CACHE_DIR, PATIENCE_S, ROOT

SECRET = "0123456789abcdef0123456789abcdef"
_POLL_S = 0.05


def revision_of(model_dir: Path) -> str:
    """As the service reports it."""
    return resolve(str(model_dir), CACHE_DIR).revision[:16]


class NodeUnderTest:
    """Starts at once; use as a context manager so that nothing is left behind. `settings` are NODES__RANK and so on."""

    def __init__(
        self,
        model_dir: Path,
        rendezvous: str,
        secret_file: Path,
        environment: Mapping[str, str] | None = None,
        **settings: str,
    ) -> None:
        wanted = {
            "MODEL__SOURCE": str(model_dir),
            "MODEL__CACHE_DIR": str(CACHE_DIR),
            "NODES__COUNT": "2",
            "NODES__RANK": "1",
            "NODES__RENDEZVOUS": rendezvous,
            "NODES__SECRET_FILE": str(secret_file),
            "ENGINE__DEVICE": "cpu",
            "ENGINE__KV_TOKENS": "2048",
            "ENGINE__THREADS_PER_RANK": "1",
            **settings,
        }
        variables = {f"MESH_INFERENCE_{name}": value for name, value in wanted.items()}
        self._log = os.memfd_create("log")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.inference"],
            cwd=ROOT,
            env={**os.environ, **(environment or {}), **variables},
            stdin=subprocess.DEVNULL,
            stderr=self._log,
            start_new_session=True,
        )

    def __enter__(self) -> NodeUnderTest:
        return self

    def __exit__(self, *exception: object) -> None:
        self.signal_tree(signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        os.close(self._log)

    def ranks(self) -> list[psutil.Process]:
        """The engine processes under it."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "services.inference.engine" in child.cmdline()]

    def signal_tree(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def log(self) -> str:
        """What it wrote so far."""
        return os.pread(self._log, os.fstat(self._log).st_size, 0).decode()

    def await_log(self, text: str) -> None:
        """Return when it has written this."""
        until = time.monotonic() + PATIENCE_S
        while text not in self.log():
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError(f"{text!r} is not in:\n{self.log()}")
            time.sleep(_POLL_S)
