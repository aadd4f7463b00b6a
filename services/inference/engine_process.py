"""One engine process: in a process group of its own, spoken to over a socket pair, and gone without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence

from services.inference.engine.messages import FromEngine, Shutdown, ToEngine
from services.inference.engine.transport import EndOfStream, StreamChannel, open_stream_channel
from services.inference.rank_watch import RankWatch

MakeCommand = Callable[[int], Sequence[str]]
"""From the descriptor of the engine's end to the command line."""
DEATH_TIMEOUT_S = 5.0


class EngineProcess:
    """Rank 0 and, through its process group, everything that it started. Make it with `spawn`."""

    def __init__(self, process: asyncio.subprocess.Process, channel: StreamChannel[ToEngine, FromEngine]) -> None:
        self._process = process
        self._channel = channel
        self._outgoing: asyncio.Queue[ToEngine] = asyncio.Queue()
        self._ranks = RankWatch([process.pid])

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ranks(self) -> RankWatch:
        """Rank 0 alone until `know_ranks`."""
        return self._ranks

    def know_ranks(self, pids: Sequence[int]) -> None:
        """Watch these processes from now on."""
        before, self._ranks = self._ranks, RankWatch(pids)
        before.close()

    def send(self, message: ToEngine) -> None:
        """Queue a message, in order. Bounded by the open sequences: each sends one AddSequence, one Abort."""
        self._outgoing.put_nowait(message)

    async def write(self) -> None:
        """Write what is queued, until cancelled; raises EndOfStream."""
        while True:
            await self._channel.write(await self._outgoing.get())

    async def read(self) -> FromEngine:
        """The next message; raises EndOfStream or BadFrame."""
        return await self._channel.read()

    async def end(self, grace_s: float) -> None:
        """Ask it to leave, wait that long, then kill; returns when nothing of it is left. 0 kills at once."""
        try:
            if grace_s > 0:
                await self._ask_to_leave(grace_s)
        finally:
            self._kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DEATH_TIMEOUT_S):
                    await self._ranks.all_dead()
                    await self._process.wait()
            self._ranks.close()
            await self._channel.close()

    async def _ask_to_leave(self, grace_s: float) -> None:
        with contextlib.suppress(TimeoutError, EndOfStream):
            async with asyncio.timeout(grace_s):
                await self._channel.write(Shutdown())
                await self._ranks.all_dead()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._ranks.kill()


async def spawn(make_command: MakeCommand) -> EngineProcess:
    """Start an engine. Its stdout and stderr are ours; its stdin is empty."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                *make_command(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
    try:
        return EngineProcess(process, await open_stream_channel(ours, FromEngine))
    except BaseException:
        ours.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
