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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from services.inference.engine.messages import Fatal
from services.inference.engine.options import EngineOptions, as_arguments
from services.inference.engine.plan import FromRank, Join, StepPlan
from services.inference.engine.transport import BlockingChannel, EndOfStream

EXIT_RANK_LOST = 70
_VERDICT_S = 0.5
_PR_SET_PDEATHSIG = 1

RankChannel = BlockingChannel[StepPlan | Join, FromRank | Fatal]


class Followers:
    """Rank 0's view of ranks 1.. : a channel and a process each. Their death ends this process at once.

    What a rank said last is passed to `on_loss` before, since the main thread may wait for that rank in an all-reduce.
    """

    def __init__(
        self,
        processes: list[subprocess.Popen[bytes]],
        channels: list[RankChannel],
        on_loss: Callable[[Fatal], None],
    ) -> None:
        self._processes, self._channels, self._on_loss = processes, channels, on_loss
        self._watcher = threading.Thread(target=self._watch, name="rank-watch", daemon=True)
        if processes:
            self._watcher.start()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def tell(self, message: StepPlan | Join) -> None:
        for channel in self._channels:
            channel.write(message)

    def hear(self) -> list[FromRank | Fatal]:
        """One message from each."""
        return [channel.read() for channel in self._channels]

    def await_verdict(self) -> None:
        """After an all-reduce failed: if a rank died of something, that is told, and this process ends here."""
        if self._watcher.is_alive():
            self._watcher.join(_VERDICT_S)

    def _watch(self) -> None:
        poller, channels = select.poll(), {}
        for process, channel in zip(self._processes, self._channels, strict=True):
            pidfd = os.pidfd_open(process.pid)
            channels[pidfd] = channel
            poller.register(pidfd, select.POLLIN)
        try:
            for pidfd, _ in poller.poll():
                self._pass_on_last_word(channels[pidfd])
        finally:
            os._exit(EXIT_RANK_LOST)

    def _pass_on_last_word(self, channel: RankChannel) -> None:
        with suppress(EndOfStream):
            if channel.is_readable(0.0) and isinstance(said := channel.read(), Fatal):
                self._on_loss(said)


def start_followers(options: EngineOptions, on_loss: Callable[[Fatal], None]) -> Followers:
    """Start ranks 1.. with the same options; `on_loss` is told, on another thread, why one could not go on."""
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
    return Followers(processes, channels, on_loss)


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent ends; exit if it has ended already (0: not known).

    The kernel means the parent's *thread*: whoever starts an engine must do so from a thread that stays.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid and os.getppid() != parent_pid:
        os._exit(EXIT_RANK_LOST)
