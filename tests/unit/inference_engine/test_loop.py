"""What the loop says on its socket, with a model that always says the same."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from services.inference.engine.loop import Loop
from services.inference.engine.messages import (
    Abort,
    CacheChanged,
    FlushCache,
    Flushed,
    FromEngine,
    Heartbeat,
    PinPrefix,
    PrefixPinned,
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

    def __init__(self, **limits: Any) -> None:
        ours, theirs = socket.socketpair()
        self.channel: BlockingChannel[ToEngine, FromEngine] = BlockingChannel(ours, FromEngine)
        engine: BlockingChannel[FromEngine, ToEngine] = BlockingChannel(theirs, ToEngine)
        self._loop = Loop(engine, make_scheduler(**limits), ConstantRunner(), time.monotonic)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.ended_by: BaseException | None = None
        self.thread.start()

    def _run(self) -> None:
        try:
            self._loop.run()
        except EndOfStream as error:
            self.ended_by = error

    def read(self, *, passes_over: tuple[type, ...] = (Heartbeat, CacheChanged)) -> FromEngine:
        """The next event that says something else than these."""
        while True:
            assert self.channel.is_readable(PATIENCE_S)
            event = self.channel.read()
            if not isinstance(event, passes_over):
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


def test_blocks_are_told_as_they_come_and_go_and_a_flush_ends_with_its_own_id(peer: Peer) -> None:
    peer.channel.write(request(1, [9] * 31, max_tokens=1))
    stored, done = (peer.read(passes_over=(Heartbeat,)) for _ in range(2))
    assert isinstance(stored, CacheChanged) and isinstance(done, StepDone)
    peer.channel.write(FlushCache(flush_id=7))
    evicted, flushed = (peer.read(passes_over=(Heartbeat,)) for _ in range(2))
    assert len(stored.stored) == 1 and stored.evicted == []
    assert evicted == CacheChanged(stored=[], evicted=stored.stored)
    assert flushed == Flushed(flush_id=7, block_count=1)


def test_pins_are_taken_and_let_go(peer: Peer) -> None:
    for pin_id, is_pinned in ((1, True), (2, False)):
        peer.channel.write(PinPrefix(pin_id=pin_id, token_ids=[9] * 40, is_pinned=is_pinned))
        assert peer.read() == PrefixPinned(pin_id=pin_id)
        assert isinstance(peer.read(), StepDone)
    peer.channel.write(request(1, [9], max_tokens=1))
    assert isinstance(peer.read(), StepDone)


def test_prefix_that_is_too_long_to_keep_is_refused_and_the_loop_lives_on(peer: Peer) -> None:
    peer.channel.write(PinPrefix(pin_id=1, token_ids=[9] * 10_000))
    assert peer.read() == PrefixPinned(pin_id=1, has_room=False)
    assert isinstance(peer.read(), StepDone)
    peer.channel.write(request(1, [9], max_tokens=1))
    assert isinstance(peer.read(), StepDone)


def test_expired_sequence_is_reported_with_the_load_behind_it(peer: Peer) -> None:
    peer.channel.write(request(1, [9], max_tokens=1000, deadline_s=0.05))
    while isinstance(event := peer.read(), StepDone):
        assert event.load.running_count == 1
    assert isinstance(event, SequenceFailed) and event.reason == "expired"
    event = peer.read()
    assert isinstance(event, StepDone) and (event.tokens, event.load.kv_used_tokens) == ([], 0)


def test_loop_wakes_by_itself_when_the_batching_window_ends() -> None:
    peer = Peer(batching_window_s=0.05)
    began = time.monotonic()
    peer.channel.write(request(1, [9], max_tokens=1))
    assert isinstance(peer.read(), StepDone)
    assert time.monotonic() - began >= 0.04
    peer.channel.close()
    peer.thread.join(PATIENCE_S)


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
