"""Stops a mesh in the order that loses nothing, and leaves no process behind."""

from pathlib import Path

from meshctl.local.plan import DRAIN_TIMEOUT_S, STOP_ORDER
from meshctl.local.processes import is_running, kill_stragglers, stop
from meshctl.local.state import RunState, forget_state
from meshctl.progress import Progress

# A service drains, then closes connections and flushes telemetry.
GRACE_S = DRAIN_TIMEOUT_S + 10.0


def stop_mesh(run_dir: Path, state: RunState, progress: Progress) -> int:
    """Stops every process of this run and forgets its state; returns how many were running."""
    running = [record for record in state.processes if is_running(record)]
    for names in STOP_ORDER:
        group = [record for record in running if record.name in names]
        if group:
            with progress.step(f"stopping {', '.join(record.name for record in group)}"):
                killed = stop(group, timeout_s=GRACE_S)
            for name in killed:
                progress.say(f"{name} did not stop within {GRACE_S:.0f} s and was killed")
    kill_stragglers(run_dir)
    forget_state(run_dir)
    return len(running)
