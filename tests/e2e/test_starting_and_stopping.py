"""How a mesh begins and ends: clear refusals, a clean end in every case, no process left."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.support.local_mesh import MESHCTL, UP_TIMEOUT_S, LocalMesh, environment, meshctl

READY_SIGN = "the mesh is up"


def test_a_taken_port_is_one_sentence_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = meshctl("up", "--run-dir", str(tmp_path), "--free-ports", "--port", f"router={port}")
    assert done.code == 3
    assert f"port {port}" in done.err
    assert "--port router=N" in done.err
    assert done.err.count("\n") == 1


def test_a_model_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    done = meshctl("up", "--run-dir", str(tmp_path), "--free-ports", "--skip-checks", "--model", "./nowhere.gguf")
    assert done.code == 2
    assert "nowhere.gguf" in done.err


def test_a_service_that_dies_while_starting_shows_its_last_words_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    mesh = LocalMesh(tmp_path / "run", str(tmp_path / "broken"))
    done = mesh.run("up", "--free-ports", "--skip-checks", "--model", mesh.model, timeout_s=UP_TIMEOUT_S)
    assert done.code == 1
    assert "inference ended while it was starting" in done.err
    assert mesh.processes() == []


def test_down_leaves_no_process_even_after_a_kill(own_mesh: LocalMesh) -> None:
    own_mesh.up()
    assert len(own_mesh.processes()) >= 7
    os.kill(own_mesh.pid_of("inference"), signal.SIGKILL)
    os.kill(own_mesh.pid_of("cache"), signal.SIGKILL)
    own_mesh.down()
    assert own_mesh.processes() == []


def test_down_where_nothing_runs_is_no_error(tmp_path: Path) -> None:
    done = meshctl("down", "--run-dir", str(tmp_path))
    assert done.code == 0
    assert "no mesh runs here" in done.out


def test_ctrl_c_in_the_foreground_drains_and_stops_everything(own_mesh: LocalMesh, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("w") as out:
        command = [*MESHCTL, "up", "--run-dir", str(own_mesh.run_dir), "--model", own_mesh.model]
        command += ["--free-ports", "--skip-checks"]
        up = subprocess.Popen(command, stdout=out, stderr=out, env=environment())
    deadline = time.monotonic() + UP_TIMEOUT_S
    while READY_SIGN not in said.read_text():
        assert up.poll() is None and time.monotonic() < deadline, said.read_text()
        time.sleep(0.1)
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 0, said.read_text()
    assert own_mesh.processes() == []


def test_without_consul_the_file_registry_stands_in(own_mesh: LocalMesh) -> None:
    own_mesh.up("--registry", "file")
    status = own_mesh.run("status", "--json")
    assert own_mesh.facts["consul"] is None
    assert status.code == 0, status.out
    assert own_mesh.run("generate", "--max-tokens", "4", "Hello").code == 0
