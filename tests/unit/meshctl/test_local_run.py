"""Ports, state, processes and checks of a mesh on one machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.local import checks, processes
from meshctl.local.ports import NAMES, Ports, free_ports, is_taken, parse_ports
from meshctl.local.state import ProcessRecord, RunState, forget_state, load_state, save_state

SLEEPER = (sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('awake', flush=True); time.sleep(60)",
)
# A parent that dies at SIGTERM and leaves a child of its own behind.
ORPHANING = (
    sys.executable,
    "-c",
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print('awake', flush=True); time.sleep(60)",
)


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    processes.kill_stragglers(tmp_path)


def started(run_dir: Path, command: tuple[str, ...], name: str = "one") -> ProcessRecord:
    record = processes.spawn(name, command, environment={}, run_dir=run_dir, cwd=run_dir)
    deadline = time.monotonic() + 10
    while "awake" not in processes.log_tail(record):
        assert time.monotonic() < deadline
    return record


def record_of(pid: int, identity: str) -> ProcessRecord:
    return ProcessRecord(name="one", pid=pid, identity=identity, log="")


def test_an_assignment_changes_one_port_and_no_other() -> None:
    chosen = parse_ports(["router=50151", "consul=8600"], Ports())
    assert chosen.router == 50151
    assert chosen.consul == 8600
    assert chosen.cache == Ports().cache


@pytest.mark.parametrize("assignment", ["router", "router=", "router=x", "router=0", "router=70000", "nobody=1"])
def test_a_wrong_assignment_is_named_with_what_is_allowed(assignment: str) -> None:
    with pytest.raises(ValueError, match="NAME=PORT") as caught:
        parse_ports([assignment], Ports())
    assert repr(assignment) in str(caught.value)


def test_free_ports_are_free_and_distinct() -> None:
    numbers = free_ports().named()
    assert set(numbers) == set(NAMES)
    assert len(set(numbers.values())) == len(NAMES)
    assert not any(map(is_taken, numbers.values()))


def test_a_taken_port_is_reported_with_its_name_and_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = parse_ports([f"cache={port}"], free_ports())
        found = list(checks.port_problems(ports, uses_consul=True))
    assert len(found) == 1
    assert f"port {port}" in found[0]
    assert "--port cache=N" in found[0]


def test_consul_s_ports_do_not_matter_without_consul() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = parse_ports([f"consul={taken.getsockname()[1]}"], free_ports())
        assert list(checks.port_problems(ports, uses_consul=False)) == []


def test_too_little_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "NEEDED_DISK_BYTES", 2**62)
    assert any("disk" in problem and "--run-dir" in problem for problem in checks.room_problems(tmp_path / "absent"))


def test_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    state = RunState(model="m", registry="consul", ports=Ports(), processes=(record_of(1, "a"),), is_ready=True)
    save_state(tmp_path, state)
    assert load_state(tmp_path) == state
    forget_state(tmp_path)
    assert load_state(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": "m"}'])
def test_an_unreadable_state_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert load_state(tmp_path) is None


def test_stop_ends_a_process_within_its_grace(run_dir: Path) -> None:
    record = started(run_dir, SLEEPER)
    assert processes.is_running(record)
    assert processes.stop([record], timeout_s=10) == []
    assert not processes.is_running(record)


def test_a_process_that_ignores_the_request_is_killed_and_named(run_dir: Path) -> None:
    record = started(run_dir, STUBBORN, "stubborn")
    assert processes.stop([record], timeout_s=0.3) == ["stubborn"]
    assert not processes.is_running(record)


def test_children_of_a_stopped_process_do_not_survive_it(run_dir: Path) -> None:
    record = started(run_dir, ORPHANING)
    processes.stop([record], timeout_s=10)
    assert processes.kill_stragglers(run_dir) == 0


def test_an_orphan_of_a_killed_process_is_found_by_its_mark(run_dir: Path) -> None:
    record = started(run_dir, ORPHANING)
    os.kill(record.pid, signal.SIGKILL)
    while processes.is_running(record):
        pass
    assert processes.kill_stragglers(run_dir) == 1


def test_a_recycled_pid_is_never_signalled() -> None:
    with subprocess.Popen(SLEEPER, stdout=subprocess.DEVNULL) as stranger:
        try:
            impostor = record_of(stranger.pid, "ticks:1")
            assert not processes.is_running(impostor)
            assert processes.stop([impostor], timeout_s=0.1) == []
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_process_that_ended_is_not_running_even_before_anybody_asked_for_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert processes.identity_of(process.pid) is None
    process.wait()
