"""Ranks 1.., on any node: load a shard, then run whatever plan comes; blocked on the socket in between."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from services.inference.engine.faults import as_fatal
from services.inference.engine.options import EngineOptions
from services.inference.engine.plan import Join, Loaded, Room, StepPlan, ToRank
from services.inference.engine.transport import BlockingChannel, EndOfStream

if TYPE_CHECKING:  # it imports torch: the environment is set before that
    from services.inference.engine.rows import Runner


def follow(options: EngineOptions) -> NoReturn:
    """Until rank 0 closes its end, or until this rank can't go on."""
    status = 1
    try:
        status = _follow(options)
        sys.stderr.flush()
    finally:
        os._exit(status)  # the exit handlers of torch and DeepSpeed can wait for ranks that are gone


def _follow(options: EngineOptions) -> int:
    channel = BlockingChannel[Any, Any](socket.socket(fileno=options.fd), ToRank)
    try:
        runner = _load(options, channel)
    except EndOfStream:
        return 0
    except Exception as error:
        return _await_end(error, channel)
    try:
        _run_plans(runner, channel)
    except EndOfStream:
        return 0
    except Exception as error:
        channel.write(as_fatal(error))  # rank 0 reads it when this rank has ended: it may wait in an all-reduce
        return 1


def _load(options: EngineOptions, channel: BlockingChannel[Any, Any]) -> Runner:
    from services.inference.engine.pool_size import size_pool
    from services.inference.engine.rank import Rank, prepare

    prepare(options)
    channel.write(Room(kv_tokens=size_pool(options).kv_tokens))
    rank = Rank.load(options)
    join = channel.read()
    assert isinstance(join, Join)
    runner = rank.make_runner(join).runner
    channel.write(Loaded())
    return runner


def _run_plans(runner: Runner, channel: BlockingChannel[Any, Any]) -> NoReturn:
    while True:
        plan = channel.read()
        assert isinstance(plan, StepPlan)
        runner.run(plan)


def _await_end(error: Exception, channel: BlockingChannel[Any, Any]) -> int:
    """Tell rank 0, then stay until it has ended: during a start it reads what each rank says."""
    try:
        channel.write(as_fatal(error))
        while True:
            channel.read()
    except EndOfStream:
        return 1
