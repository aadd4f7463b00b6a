"""Signs of life of processes that are not all our children: their end, their processor time, who is stopped."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STATE_FIELD, _UTIME_FIELD, _STIME_FIELD = 0, 11, 12
"""Positions behind the command's closing parenthesis in /proc/PID/stat (proc(5), fields 3, 14 and 15)."""


class RankWatch:
    """Holds a pidfd of each rank, so that a number that is used again is never mistaken for a rank."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pids = list(pids)
        self._pidfds: dict[int, int] = {}
        self._alive = set(range(len(self._pids)))
        self._first_death: asyncio.Future[int] = self._loop.create_future()
        self._all_dead = asyncio.Event()
        self.first_dead: int | None = None
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
        return {rank: _cpu_s(stat) for rank, stat in self._stats()}

    def stopped(self) -> frozenset[int]:
        """Ranks that are not being run because somebody stopped or traces them."""
        return frozenset(rank for rank, stat in self._stats() if stat[_STATE_FIELD] in "tT")

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

    def _stats(self) -> Iterator[tuple[int, list[str]]]:
        for rank in self._alive:
            try:
                yield rank, Path(f"/proc/{self._pids[rank]}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue

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
        if self.first_dead is None:
            self.first_dead = rank
        if not self._first_death.done():
            self._first_death.set_result(rank)
        if not self._alive:
            self._all_dead.set()

    def _forget(self, rank: int) -> None:
        if (pidfd := self._pidfds.pop(rank, None)) is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)


def _cpu_s(stat: list[str]) -> float:
    return (int(stat[_UTIME_FIELD]) + int(stat[_STIME_FIELD])) / _TICKS_PER_S
