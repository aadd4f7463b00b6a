"""What the loop says on its socket, with a model that always says the same."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from services.inference.engine.loop import Loop
from services.inference.engine.messages import (
    Abort,
    FromEngine,
    Heartbeat,
    SequenceFailed,
    Shutdown,
    StepDone,
    ToEngine,
)
from services.inference.engine.transport import BlockingChannel, EndOfStream
from tests.unit.inference_engine.requests import make_scheduler, request
from tests.unit.inference_engine.test_scheduler import ConstantRunner

PATIENCE_S = 20.0


class Peer:
    """The RPC process's end of a loop that runs in a thread."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.channel: BlockingChannel[ToEngine, FromEngine] = BlockingChannel(ours, FromEngine)
        engine: BlockingChannel[FromEngine, ToEngine] = BlockingChannel(theirs, ToEngine)
        self._loop = Loop(engine, make_scheduler(), ConstantRunner(), time.monotonic)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.ended_by: BaseException | None = None
        self.thread.start()

    def _run(self) -> None:
        try:
            self._loop.run()
        except EndOfStream as error:
            self.ended_by = error

    def read(self) -> FromEngine:
        """The next event that isn't a heartbeat."""
        while True:
            assert self.channel.is_readable(PATIENCE_S)
            event = self.channel.read()
            if not isinstance(event, Heartbeat):
                return event


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.channel.close()
    peer.thread.join(PATIENCE_S)


def test_each_step_reports_its_tokens_and_the_load_behind_it(peer: Peer) -> None:
    peer.channel.write(request(1, [9, 9], max_tokens=3))
    steps = [peer.read() for _ in range(3)]
    assert all(isinstance(step, StepDone) for step in steps)
    last = steps[-1]
    assert isinstance(last, StepDone) and last.tokens[0].finish == "length"
    assert (last.load.running_count, last.load.kv_used_tokens, last.load.generated_token_count) == (0, 0, 3)


def test_rejected_sequence_is_reported_and_the_loop_lives_on(peer: Peer) -> None:
    peer.channel.write(request(1, [999]))
    assert isinstance(peer.read(), SequenceFailed)
    peer.channel.write(request(2, [9], max_tokens=1))
    assert isinstance(peer.read(), StepDone)


def test_abort_of_a_known_sequence_reports_the_load_and_of_an_unknown_one_nothing(peer: Peer) -> None:
    peer.channel.write(Abort(sequence_id=77))
    peer.channel.write(request(1, [9], max_tokens=1000))
    assert isinstance(peer.read(), StepDone)
    peer.channel.write(Abort(sequence_id=1))
    while (event := peer.read()) and isinstance(event, StepDone) and event.load.running_count:
        assert len(event.tokens) == 1
    assert isinstance(event, StepDone) and (event.tokens, event.load.kv_used_tokens) == ([], 0)


def test_idle_loop_beats(peer: Peer) -> None:
    for _ in range(2):
        assert peer.channel.is_readable(PATIENCE_S)
        assert peer.channel.read() == Heartbeat(step_count=0)


def test_shutdown_and_the_end_of_the_socket_both_end_the_loop() -> None:
    told, left = Peer(), Peer()
    told.channel.write(Shutdown())
    left.channel.close()
    for peer in (told, left):
        peer.thread.join(PATIENCE_S)
        assert not peer.thread.is_alive()
    assert told.ended_by is None
    assert isinstance(left.ended_by, EndOfStream)
