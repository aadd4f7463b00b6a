"""Starts a planned mesh: back ends first, then all services at once, each watched until it is ready."""

import asyncio
import os
import shutil
from collections.abc import Iterable, Sequence

from meshctl.local import plan as planning
from meshctl.local.plan import MeshPlan, ProcessPlan
from meshctl.local.processes import identity_of, spawn
from meshctl.local.readiness import wait_ready
from meshctl.local.state import ProcessRecord, RunState, save_state
from meshctl.progress import Progress

# State of an earlier run that would mislead this one: registrations and last-known instances of dead processes.
FORGOTTEN = ("consul", "registry", "snapshots", "logs")


async def start_mesh(plan: MeshPlan, progress: Progress) -> RunState:
    """Returns once everything is healthy. Raises NotStarted; then what was started is in the saved state."""
    for name in FORGOTTEN:
        shutil.rmtree(plan.run_dir / name, ignore_errors=True)
    launch = _Launch(plan, progress)
    await launch.start(planning.backends(plan))
    await launch.start(planning.services(plan))
    return launch.saved(is_ready=True)


class _Launch:
    """The processes started so far; each is written down before the next thing happens."""

    def __init__(self, plan: MeshPlan, progress: Progress) -> None:
        self._plan = plan
        self._progress = progress
        self._records: list[ProcessRecord] = []

    async def start(self, plans: Sequence[ProcessPlan]) -> None:
        """All of them at once; the first failure ends the wait for the others."""
        waits = [asyncio.ensure_future(self._start_one(one)) for one in plans]
        try:
            await asyncio.gather(*waits)
        finally:
            await _cancel(waits)

    def saved(self, *, is_ready: bool) -> RunState:
        state = RunState(
            model=self._plan.model_name,
            registry=self._plan.registry,
            ports=self._plan.ports,
            processes=tuple(self._records),
            operator=_this_process(),
            is_ready=is_ready,
        )
        save_state(self._plan.run_dir, state)
        return state

    async def _start_one(self, one: ProcessPlan) -> None:
        with self._progress.step(f"starting {one.name}") as step:
            record = spawn(
                one.name, one.command, environment=one.environment, run_dir=self._plan.run_dir, cwd=planning.ROOT
            )
            self._records.append(record)
            self.saved(is_ready=False)
            await wait_ready(self._plan, record, one.start_timeout_s, step.note)


def _this_process() -> ProcessRecord:
    return ProcessRecord(name="meshctl up", pid=os.getpid(), identity=identity_of(os.getpid()) or "", log="")


async def _cancel(tasks: Iterable["asyncio.Future[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
