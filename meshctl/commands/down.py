"""Stop the mesh that runs here, leaving no process.

Calls in flight are let finish for some seconds; what does not stop by itself is killed.
"""

import json
import os
import signal
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from meshctl import options
from meshctl.failure import ExitCode
from meshctl.local.state import load_state
from meshctl.progress import Progress

if TYPE_CHECKING:
    from meshctl.local.state import ProcessRecord

NAME = "down"
EPILOG = """\
examples:
  meshctl down
  meshctl down --run-dir /tmp/second

exit codes:
  0 nothing runs any more, also where nothing ran before
"""
OPERATOR_TIMEOUT_S = 60.0
POLL_S = 0.1


def add_arguments(parser: ArgumentParser) -> None:
    options.add_run_dir(parser)
    options.add_json(parser)


def run(arguments: Namespace) -> int:
    stopped_count = _stop(arguments.run_dir.resolve(), Progress())
    if arguments.json:
        print(json.dumps({"stopped_processes": stopped_count}))
    else:
        print(f"stopped {stopped_count} processes" if stopped_count else "no mesh runs here")
    return ExitCode.OK


def _stop(run_dir: Path, progress: Progress) -> int:
    from meshctl.local.processes import is_running, kill_stragglers
    from meshctl.local.shutdown import stop_mesh

    state = load_state(run_dir)
    if state is None:
        return kill_stragglers(run_dir)
    running_count = sum(map(is_running, state.processes))
    if state.operator is not None and is_running(state.operator):
        with progress.step("waiting for the `meshctl up` in the foreground"):
            _tell(state.operator)
    stop_mesh(run_dir, load_state(run_dir) or state, progress)
    return running_count


def _tell(operator: "ProcessRecord") -> None:
    """It drains by itself; what it leaves is stopped afterwards."""
    from meshctl.local.processes import is_running

    os.kill(operator.pid, signal.SIGTERM)
    deadline = time.monotonic() + OPERATOR_TIMEOUT_S
    while is_running(operator) and time.monotonic() < deadline:
        time.sleep(POLL_S)
