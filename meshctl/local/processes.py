"""Starts processes so that they can be found and stopped later, and only they: a recycled pid is never signalled."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from meshctl.local.state import ProcessRecord

RUN_VARIABLE = "MESHCTL_RUN"
"""In the environment of every process of a mesh, with its run directory as the value."""
POLL_S = 0.05
KILL_WAIT_S = 5.0
TAIL_BYTES = 16 * 1024


def spawn(
    name: str, command: Sequence[str], *, environment: Mapping[str, str], run_dir: Path, cwd: Path
) -> ProcessRecord:
    """Starts it in a session of its own, so that the terminal's Ctrl-C does not reach it; output goes to its log."""
    log = run_dir / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env={**os.environ, **environment, RUN_VARIABLE: str(run_dir)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return ProcessRecord(name=name, pid=process.pid, identity=identity_of(process.pid) or "", log=str(log))


def identity_of(pid: int) -> str | None:
    """The same for the whole life of one process and for no other; None when it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _portable_identity(pid) if not Path("/proc/self/stat").exists() else None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else f"ticks:{fields[18]}"  # field 22 of proc(5): start time since boot


def is_running(record: ProcessRecord) -> bool:
    reap(record.pid)
    return bool(record.identity) and identity_of(record.pid) == record.identity


def reap(pid: int) -> None:
    """A child that ended stays a zombie until somebody asks; harmless for others' children."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def stop(records: Iterable[ProcessRecord], *, timeout_s: float) -> list[str]:
    """SIGTERM, then SIGKILL for what is left after `timeout_s`; returns the names of those that had to be killed.

    Children of a killed process, such as the engine's ranks, are killed with it.
    """
    alive = [record for record in records if is_running(record)]
    families = {record.name: _family(record.pid) for record in alive}
    for record in alive:
        _signal(record, signal.SIGTERM)
    stubborn = _outlasting(alive, timeout_s)
    for record in stubborn:
        _signal(record, signal.SIGKILL)
    _outlasting(stubborn, KILL_WAIT_S)
    _kill([process for family in families.values() for process in family])
    return [record.name for record in stubborn]


def kill_stragglers(run_dir: Path) -> int:
    """Kills whatever still carries this run's mark; returns how many. The last resort that leaves no process."""
    stragglers = [process for process in psutil.process_iter() if _is_of_run(process, run_dir)]
    _kill(stragglers)
    return len(stragglers)


def log_tail(record: ProcessRecord, line_count: int = 12) -> str:
    """The last lines that the process wrote."""
    try:
        with Path(record.log).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-line_count:])


def _outlasting(records: list[ProcessRecord], timeout_s: float) -> list[ProcessRecord]:
    """Waits for all of them to end; returns those that have not."""
    deadline = time.monotonic() + timeout_s
    while any(is_running(record) for record in records) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return [record for record in records if is_running(record)]


def _signal(record: ProcessRecord, number: signal.Signals) -> None:
    if identity_of(record.pid) == record.identity:
        try:
            os.kill(record.pid, number)
        except ProcessLookupError:
            pass


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(processes: list[psutil.Process]) -> None:
    """psutil checks the start time itself before it signals. An orphan that nobody reaps ends as a zombie."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
    deadline = time.monotonic() + KILL_WAIT_S
    while any(map(_lives, processes)) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_of_run(process: psutil.Process, run_dir: Path) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        return bool(process.environ().get(RUN_VARIABLE) == str(run_dir))
    except (psutil.Error, OSError):
        return False


def _portable_identity(pid: int) -> str | None:
    try:
        return f"created:{psutil.Process(pid).create_time()}"
    except psutil.NoSuchProcess:
        return None
