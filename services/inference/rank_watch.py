"""Signs of life of processes that are not all our children: their end, told by the kernel, and their processor time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_UTIME_FIELD, _STIME_FIELD = 11, 12
"""Positions behind the command's closing parenthesis in /proc/PID/stat (proc(5), fields 14 and 15)."""


class RankWatch:
    """Holds a pidfd of each rank, so that a number that is used again is never mistaken for a rank."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pids = list(pids)
        self._pidfds: dict[int, int] = {}
        self._alive = set(range(len(self._pids)))
        self._first_death: asyncio.Future[int] = self._loop.create_future()
        self._all_dead = asyncio.Event()
        try:
            for rank, pid in enumerate(self._pids):
                self._watch(rank, pid)
        except OSError:
            self.close()
            raise

    async def death(self) -> int:
        """The number of the first rank that ends."""
        return await asyncio.shield(self._first_death)

    async def all_dead(self) -> None:
        """Return when no rank lives."""
        await self._all_dead.wait()

    def cpu_s(self) -> Mapping[int, float]:
        """Processor seconds used by each living rank, from /proc."""
        found = ((rank, _read_cpu_s(self._pids[rank])) for rank in self._alive)
        return {rank: used_s for rank, used_s in found if used_s is not None}

    def kill(self) -> None:
        """SIGKILL to each rank that still lives."""
        for pidfd in self._pidfds.values():
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        """Let the descriptors go."""
        for rank in list(self._pidfds):
            self._forget(rank)
        self._first_death.cancel()

    def _watch(self, rank: int, pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._died(rank)
            return
        self._pidfds[rank] = pidfd
        self._loop.add_reader(pidfd, self._died, rank)

    def _died(self, rank: int) -> None:
        self._forget(rank)
        self._alive.discard(rank)
        if not self._first_death.done():
            self._first_death.set_result(rank)
        if not self._alive:
            self._all_dead.set()

    def _forget(self, rank: int) -> None:
        if (pidfd := self._pidfds.pop(rank, None)) is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)


def _read_cpu_s(pid: int) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[_UTIME_FIELD]) + int(fields[_STIME_FIELD])) / _TICKS_PER_S
