"""Ranks 1.., on any node: load a shard, then run whatever plan comes; blocked on the socket in between."""

from __future__ import annotations

import socket
from typing import Any

from services.inference.engine.faults import as_fatal
from services.inference.engine.options import EngineOptions
from services.inference.engine.plan import Join, Loaded, Room, StepPlan, ToRank
from services.inference.engine.transport import BlockingChannel, EndOfStream


def follow(options: EngineOptions) -> int:
    """Returns when rank 0 closes its end."""
    channel = BlockingChannel[Any, Any](socket.socket(fileno=options.fd), ToRank)
    try:
        _run(options, channel)
    except EndOfStream:
        return 0
    except Exception as error:
        return _report(error, channel)
    return 0


def _run(options: EngineOptions, channel: BlockingChannel[Any, Any]) -> None:
    from services.inference.engine.pool_size import size_pool
    from services.inference.engine.rank import Rank, prepare

    prepare(options)
    channel.write(Room(kv_tokens=size_pool(options).kv_tokens))
    rank = Rank.load(options)
    join = channel.read()
    assert isinstance(join, Join)
    runner = rank.make_runner(join).runner
    channel.write(Loaded())
    while True:
        plan = channel.read()
        assert isinstance(plan, StepPlan)
        runner.run(plan)


def _report(error: Exception, channel: BlockingChannel[Any, Any]) -> int:
    """Tell rank 0, then stay until it has ended: the end of a rank ends rank 0 before it can speak."""
    try:
        channel.write(as_fatal(error))
        while True:
            channel.read()
    except EndOfStream:
        return 1
