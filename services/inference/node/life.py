"""One life of the engine as another node sees it: start the ranks when told, relay, beat, until either side ends.

Plans go down, what ranks say goes up. A rank that ends or is stopped is told to node 0 at once; silence of node 0 for
longer than it announced means that it is gone. However the life ends, no rank of this host is left.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import NoReturn

from meshkit.clock import Clock
from meshkit.telemetry import logs, names
from services.inference.engine.messages import Fatal
from services.inference.engine.nodes.address import interface_of
from services.inference.engine.nodes.lines import START_PATIENCE_S
from services.inference.engine.nodes.messages import BEAT_S, Beat, RankSaid, Refused, Start
from services.inference.engine.options import EngineOptions
from services.inference.engine.plan import FromRank, Join, StepPlan
from services.inference.engine.transport import BadFrame, EndOfStream
from services.inference.liveness import Liveness
from services.inference.node.joining import Joined
from services.inference.node.ranks import LocalRanks, start_ranks

_log = logs.get_logger(__name__)


class LifeOver(Exception):
    """The ranks of this host have ended, or must; the text says why."""


class TurnedAway(Exception):
    """Node 0 knows us and won't have us: something is set otherwise here than there."""


class NodeLife:
    """From an open line to the end of it."""

    def __init__(self, joined: Joined, options: EngineOptions, clock: Clock) -> None:
        self._channel, self._local = joined.channel, joined.local
        self._options, self._clock = options, clock
        self._ranks: LocalRanks | None = None
        self._patience_s = START_PATIENCE_S
        self._heard_at = clock.now()

    async def run(self) -> NoReturn:
        """Raises LifeOver or TurnedAway."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(tasks))
                tasks.create_task(self._beat())
        except* (LifeOver, TurnedAway) as ends:
            raise _first(ends) from None
        finally:
            if self._ranks is not None:
                await self._ranks.end()
            await self._channel.close()
        raise LifeOver("its tasks ended")

    async def _listen(self, tasks: asyncio.TaskGroup) -> NoReturn:
        while True:
            try:
                message = await self._channel.read()
            except EndOfStream:
                raise LifeOver("node 0 closed the line") from None
            except BadFrame as problem:
                raise LifeOver(f"node 0 said what is no message: {problem}") from None
            self._heard_at = self._clock.now()
            if isinstance(message, Beat):
                self._patience_s = message.patience_s
            elif isinstance(message, Join | StepPlan) and self._ranks is not None:
                await self._ranks.tell(message)
            elif isinstance(message, Start) and self._ranks is None:
                self._ranks = await self._start(message)
                for rank in self._ranks.numbers:
                    tasks.create_task(self._relay_up(self._ranks, rank))
            elif isinstance(message, Refused):
                raise TurnedAway(message.problem)
            else:
                raise LifeOver(f"node 0 said {type(message).__name__} at the wrong time")

    async def _start(self, start: Start) -> LocalRanks:
        interface = interface_of(self._local.host)
        options = replace(self._options, rendezvous=start.rendezvous, interface=interface)
        try:
            ranks = await start_ranks(options)
        except OSError as problem:
            raise LifeOver(f"the ranks can't be started: {problem}") from problem
        _log.info(names.LOG_NODE_STARTED, ranks=ranks.numbers, interface=interface)
        return ranks

    async def _relay_up(self, ranks: LocalRanks, rank: int) -> None:
        while True:
            try:
                message = await ranks.hear(rank)
            except EndOfStream:
                await self._give_up(rank, "its process ended")
            except BadFrame as problem:
                await self._give_up(rank, f"it said what is no message: {problem}")
            await self._say(rank, message)
            if isinstance(message, Fatal):
                raise LifeOver(f"rank {rank}: {message.problem}")

    async def _beat(self) -> NoReturn:
        """Speak to node 0, and see whether it and the ranks are still there."""
        silence_s = self._options.node_silence_s
        liveness = Liveness(silence_s=silence_s, longest_step_s=silence_s, now=self._clock.now())
        while True:
            with contextlib.suppress(EndOfStream):  # `_listen` sees it too
                await self._channel.write(Beat(patience_s=silence_s))
            before = self._clock.now()
            await self._clock.sleep(BEAT_S)
            now = self._clock.now()
            if (late_s := now - before - BEAT_S) > BEAT_S:  # this process did not run: it could not have heard anybody
                liveness.excuse(late_s)
                self._heard_at += late_s
            if now - self._heard_at > self._patience_s:
                raise LifeOver(f"node 0 said nothing for {now - self._heard_at:.1f} s")
            if self._ranks is not None and (problem := liveness.halt(now, self._ranks.stopped())):
                await self._give_up(min(self._ranks.stopped(), default=self._ranks.numbers[0]), problem)

    async def _give_up(self, rank: int, problem: str) -> NoReturn:
        await self._say(rank, Fatal(problem=problem, advice="The log of its host may say more."))
        raise LifeOver(f"rank {rank}: {problem}")

    async def _say(self, rank: int, message: FromRank | Fatal) -> None:
        with contextlib.suppress(EndOfStream):  # `_listen` sees it too
            await self._channel.write(RankSaid(rank=rank, message=message))


def _first(group: BaseExceptionGroup[LifeOver | TurnedAway]) -> LifeOver | TurnedAway:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
