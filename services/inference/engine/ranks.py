"""The other ranks: children of rank 0, each on a socket of its own, none outliving the process that started it."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace

from services.inference.engine.messages import Fatal
from services.inference.engine.options import EngineOptions, as_arguments
from services.inference.engine.plan import FromRank, Join, StepPlan
from services.inference.engine.transport import BlockingChannel

EXIT_RANK_LOST = 70
_PR_SET_PDEATHSIG = 1

RankChannel = BlockingChannel[StepPlan | Join, FromRank | Fatal]


class Followers:
    """Rank 0's view of ranks 1.. : a channel and a process each. Their death ends this process at once."""

    def __init__(self, processes: list[subprocess.Popen[bytes]], channels: list[RankChannel]) -> None:
        self._processes, self._channels = processes, channels
        if processes:
            threading.Thread(target=self._watch, name="rank-watch", daemon=True).start()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def tell(self, message: StepPlan | Join) -> None:
        for channel in self._channels:
            channel.write(message)

    def hear(self) -> list[FromRank | Fatal]:
        """One message from each."""
        return [channel.read() for channel in self._channels]

    def _watch(self) -> None:
        poller = select.poll()
        for pid in self.pids:
            poller.register(os.pidfd_open(pid), select.POLLIN)
        poller.poll()
        os._exit(EXIT_RANK_LOST)


def start_followers(options: EngineOptions) -> Followers:
    """Start ranks 1.. with the same options."""
    processes: list[subprocess.Popen[bytes]] = []
    channels: list[RankChannel] = []
    for rank in range(1, options.local_size):
        ours, theirs = socket.socketpair()
        child = replace(options, rank=rank, fd=theirs.fileno(), parent_pid=os.getpid())
        command = [sys.executable, "-m", "services.inference.engine", *as_arguments(child)]
        passed = [descriptor for descriptor in (child.fd, options.board_fd) if descriptor >= 0]
        processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=passed))
        theirs.close()
        channels.append(BlockingChannel(ours, FromRank | Fatal))
    return Followers(processes, channels)


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent ends; exit if it has ended already (0: not known).

    The kernel means the parent's *thread*: whoever starts an engine must do so from a thread that stays.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid and os.getppid() != parent_pid:
        os._exit(EXIT_RANK_LOST)
