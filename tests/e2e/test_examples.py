"""What a caller copies really runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.local_mesh import LocalMesh

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_example_finds_a_router_through_consul_and_prints_an_answer(mesh: LocalMesh, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MESH_ROUTER"}
    environment["HOME"] = str(tmp_path)
    environment["CONSUL_URL"] = f"http://127.0.0.1:{mesh.facts['ports']['consul']}"
    command = [sys.executable, str(EXAMPLES / "ask.py"), "Why is the sky blue?"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "tokens, " in done.stdout and len(done.stdout) > 40
