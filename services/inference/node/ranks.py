"""This host's ranks: processes with a line each, watched for their end, and none left when `end` returns."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace

from services.inference.engine.messages import Fatal
from services.inference.engine.options import EngineOptions, as_arguments
from services.inference.engine.plan import FromRank, Join, StepPlan
from services.inference.engine.transport import EndOfStream, StreamChannel, open_stream_channel
from services.inference.engine_process import DEATH_TIMEOUT_S
from services.inference.rank_watch import RankWatch

ENGINE_MODULE = "services.inference.engine"

RankChannel = StreamChannel[Join | StepPlan, FromRank | Fatal]


class LocalRanks:
    """Make it with `start_ranks`."""

    def __init__(
        self, numbers: Sequence[int], processes: Sequence[asyncio.subprocess.Process], channels: Sequence[RankChannel]
    ) -> None:
        self.numbers = list(numbers)
        self._processes, self._channels = processes, channels
        self._watch = RankWatch([process.pid for process in processes])

    async def tell(self, message: Join | StepPlan) -> None:
        """A rank that is gone is told by `hear`."""
        for channel in self._channels:
            with contextlib.suppress(EndOfStream):
                await channel.write(message)

    async def hear(self, rank: int) -> FromRank | Fatal:
        """The next word of one rank; raises EndOfStream or BadFrame."""
        return await self._channels[self.numbers.index(rank)].read()

    def stopped(self) -> frozenset[int]:
        """Ranks that are not being run because somebody stopped or traces them."""
        return frozenset(self.numbers[i] for i in self._watch.stopped())

    async def end(self) -> None:
        """Kill them all; returns when they are gone."""
        self._watch.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEATH_TIMEOUT_S):
                await self._watch.all_dead()
                await asyncio.gather(*(process.wait() for process in self._processes))
        self._watch.close()
        for channel in self._channels:
            await channel.close()


async def start_ranks(options: EngineOptions) -> LocalRanks:
    """Start this node's ranks; their stdout and stderr are ours, and they die with this process."""
    numbers = range(options.node_rank * options.local_size, (options.node_rank + 1) * options.local_size)
    processes: list[asyncio.subprocess.Process] = []
    channels: list[RankChannel] = []
    try:
        for number in numbers:
            await _start(replace(options, rank=number, parent_pid=os.getpid()), processes, channels)
        return LocalRanks(numbers, processes, channels)
    except BaseException:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        raise


async def _start(
    options: EngineOptions, processes: list[asyncio.subprocess.Process], channels: list[RankChannel]
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        arguments = as_arguments(replace(options, fd=theirs.fileno()))
        processes.append(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                ENGINE_MODULE,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        )
    channels.append(await open_stream_channel(ours, FromRank | Fatal))
