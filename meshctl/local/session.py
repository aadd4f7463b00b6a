"""The life of `meshctl up` once its plan is made: one mesh a run directory, watched until it is told to stop."""

import asyncio
import contextlib
import fcntl
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from meshctl.failure import CommandFailed, ExitCode
from meshctl.local.launch import start_mesh
from meshctl.local.plan import MeshPlan
from meshctl.local.processes import is_running, kill_stragglers, log_tail
from meshctl.local.readiness import NotStarted
from meshctl.local.shutdown import stop_mesh
from meshctl.local.state import RunState, forget_state, load_state, save_state
from meshctl.progress import Progress

POLL_S = 0.5


@contextlib.contextmanager
def sole_start(run_dir: Path) -> Iterator[None]:
    """Raises CommandFailed where a mesh runs or starts in this run directory; sweeps up after one that crashed."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "start.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandFailed(
                f"another `meshctl up` is starting in {run_dir}: wait for it, or `meshctl down`"
            ) from None
        state = load_state(run_dir)
        if state and any(map(is_running, state.processes)):
            raise CommandFailed(
                f"a mesh runs in {run_dir} already: `meshctl down` stops it; --run-dir and --free-ports start a second"
            )
        kill_stragglers(run_dir)
        forget_state(run_dir)
        yield


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM, as `meshctl down` sends it, drains like Ctrl-C."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def start(plan: MeshPlan, progress: Progress) -> RunState:
    """Returns once all is healthy; whatever goes wrong, nothing is left running. Raises CommandFailed."""
    try:
        return asyncio.run(start_mesh(plan, progress))
    except NotStarted as problem:
        end(plan.run_dir, progress)
        raise CommandFailed(str(problem)) from problem
    except BaseException:
        end(plan.run_dir, progress)
        raise


def detach(run_dir: Path, state: RunState) -> None:
    save_state(run_dir, replace(state, operator=None))


def stay(state: RunState, progress: Progress) -> int:
    """Says so when a process ends; returns when none is left."""
    watched = list(state.processes)
    while watched:
        time.sleep(POLL_S)
        for record in [one for one in watched if not is_running(one)]:
            watched.remove(record)
            progress.say(f"{log_tail(record)}\n{record.name} (pid {record.pid}) has ended; its log is {record.log}")
    return ExitCode.FAILED


def end(run_dir: Path, progress: Progress) -> None:
    """Drains and stops; a second Ctrl-C kills at once."""
    state = load_state(run_dir)
    try:
        if state is not None:
            stop_mesh(run_dir, state, progress)
    except KeyboardInterrupt:
        kill_stragglers(run_dir)
        forget_state(run_dir)
