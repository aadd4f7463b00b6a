"""Rank 0's lines: plans arrive in order, and a node that dies, hangs or babbles is named in time."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from services.inference.engine.messages import Fatal
from services.inference.engine.nodes.address import Address
from services.inference.engine.nodes.lines import FarNodes, Line
from services.inference.engine.nodes.messages import BEAT_S, Beat, FromNode, RankSaid, Start, ToNode
from services.inference.engine.plan import Join, Loaded, StepPlan
from services.inference.engine.transport import BlockingChannel

SILENCE_S = 0.6
NOTICED_S = 10.0  # on a busy machine; the rule itself is SILENCE_S and a beat


class Far:
    """FarNodes over real sockets, the other ends, and the verdict."""

    def __init__(self, node_count: int, *, is_serving: bool) -> None:
        pairs = [socket.socketpair() for _ in range(node_count)]
        self.sockets = [theirs for _, theirs in pairs]
        self.ends = [BlockingChannel[FromNode, ToNode](theirs, ToNode) for theirs in self.sockets]
        self.verdicts: queue.SimpleQueue[Fatal] = queue.SimpleQueue()
        lines = [Line(i + 1, Address(host="10.0.0.9", port=i + 1), ours) for i, (ours, _) in enumerate(pairs)]
        self.nodes = FarNodes(lines, ranks_per_node=2, silence_s=SILENCE_S, on_lost=self.verdicts.put)
        if is_serving:
            self.nodes.serve()

    def verdict(self) -> str:
        return self.verdicts.get(timeout=NOTICED_S).problem


@contextlib.contextmanager
def far(node_count: int = 1, *, is_serving: bool = True) -> Iterator[Far]:
    one = Far(node_count, is_serving=is_serving)
    try:
        yield one
    finally:
        for end in one.ends:
            end.close()


def next_but_beats(end: BlockingChannel[FromNode, ToNode]) -> object:
    while isinstance(message := end.read(NOTICED_S), Beat):
        pass
    return message


def test_each_node_gets_every_message_in_order_between_beats() -> None:
    with far(2, is_serving=False) as one:
        one.nodes.start(lambda line: f"tcp://for-{line.node_rank}")
        sent = [
            Join(all_reduce="gloo", kv_tokens=64, context_tokens=32),
            StepPlan(step=1, chunks=[]),
            StepPlan(step=2, chunks=[]),
        ]
        for message in sent:
            one.nodes.tell(message)
        for number, end in enumerate(one.ends, start=1):
            assert next_but_beats(end) == Start(rendezvous=f"tcp://for-{number}")
            assert [next_but_beats(end) for _ in sent] == sent


def test_start_waits_for_a_word_from_each_rank() -> None:
    with far(2, is_serving=False) as one:
        for end in one.ends:
            for rank in range(2):
                end.write(RankSaid(rank=rank, message=Loaded()))
        assert one.nodes.hear() == [Loaded()] * 4


def test_silent_node_is_lost_when_the_engine_serves() -> None:
    with far() as one:
        began = time.monotonic()
        assert "node 1 at 10.0.0.9:1 said nothing for" in one.verdict()
        assert time.monotonic() - began >= SILENCE_S


def test_node_that_beats_is_not_lost_though_another_is() -> None:
    with far(2) as one:
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(SILENCE_S / 6):
                one.ends[0].write(Beat(patience_s=1.0))

        beating = threading.Thread(target=beat)
        beating.start()
        assert "node 2" in one.verdict()
        stop.set()
        beating.join()


def test_start_has_more_patience_and_says_so() -> None:
    with far(is_serving=False) as one:
        beat = one.ends[0].read(NOTICED_S)
        assert isinstance(beat, Beat) and beat.patience_s > 10 * SILENCE_S
        one.nodes.serve()
        began = time.monotonic()
        while beat.patience_s != SILENCE_S:
            beat = one.ends[0].read(NOTICED_S)
            assert isinstance(beat, Beat)
        assert time.monotonic() - began < BEAT_S / 2


def test_closed_line_is_lost_at_once_even_at_the_start() -> None:
    with far(is_serving=False) as one:
        one.sockets[0].close()
        assert "node 1 at 10.0.0.9:1 closed its line" in one.verdict()


@pytest.mark.parametrize(
    ("spoken", "told"), [(b"\x00\x00\x00\x09half", "broke off"), (b"\xff\xff\xff\xff", "no message")]
)
def test_node_that_babbles_or_breaks_off_is_lost(spoken: bytes, told: str) -> None:
    with far(is_serving=False) as one:
        one.sockets[0].sendall(spoken)
        assert told in one.verdict()


def test_what_a_far_rank_died_of_is_the_verdict() -> None:
    with far() as one:
        one.ends[0].write(RankSaid(rank=3, message=Fatal(problem="memory ran out", advice="buy some")))
        fatal = one.verdicts.get(timeout=NOTICED_S)
    assert fatal == Fatal(problem="rank 3 on node 1 at 10.0.0.9:1: memory ran out", advice="buy some")


def test_only_the_first_verdict_counts() -> None:
    with far(2) as one:
        for sock in one.sockets:
            sock.close()
        assert "closed its line" in one.verdict()
        with pytest.raises(queue.Empty):
            one.verdicts.get(timeout=2 * SILENCE_S)
