"""Rank 0's lines to the other nodes: plans go out, signs of life both ways, and a node that is lost ends this engine.

A thread keeps the lines: it reads them, beats, and counts the silence, while the main thread computes. What it finds
out it tells `on_lost`, which must not return: without a node there is nothing to go on with.
"""

from __future__ import annotations

import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence

from services.inference.engine.messages import Fatal
from services.inference.engine.nodes.address import Address, address_of
from services.inference.engine.nodes.messages import BEAT_S, Beat, FromNode, Proof, RankSaid, Start, Terms, ToNode
from services.inference.engine.plan import FromRank, Join, StepPlan
from services.inference.engine.transport import BadFrame, BlockingChannel, EndOfStream

START_PATIENCE_S = 30.0  # importing torch and loading weights can hold the interpreter's lock for seconds
_VERDICT_S = 1.0
_MAX_FRAME_BYTES = 1024 * 1024

NodeChannel = BlockingChannel[ToNode, FromNode]


class Line:
    """An open line to a node whose secret and terms are right."""

    def __init__(self, node_rank: int, peer: Address, sock: socket.socket) -> None:
        self.node_rank, self.peer = node_rank, peer
        self.channel: NodeChannel = BlockingChannel(sock, FromNode, max_frame_bytes=_MAX_FRAME_BYTES)
        self._socket = sock

    @property
    def local(self) -> Address:
        """This host, as that node reaches it."""
        return address_of(self._socket.getsockname())

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __str__(self) -> str:
        return f"node {self.node_rank} at {self.peer}"


class FarNodes:
    """All other nodes, from the moment when all are there. `ranks_per_node` ranks run on each."""

    def __init__(
        self, lines: Sequence[Line], *, ranks_per_node: int, silence_s: float, on_lost: Callable[[Fatal], None]
    ) -> None:
        self._lines, self._on_lost = lines, on_lost
        self._rank_count = ranks_per_node * len(lines)
        self._silence_s, self._patience_s = silence_s, START_PATIENCE_S
        self._said: queue.SimpleQueue[FromRank] = queue.SimpleQueue()
        self._heard_at = {line.node_rank: time.monotonic() for line in lines}
        self._is_over = threading.Event()
        threading.Thread(target=self._keep, name="node-lines", daemon=True).start()

    def start(self, rendezvous_of: Callable[[Line], str]) -> None:
        """Have each node start its ranks; `rendezvous_of` says where they meet, as that node sees it."""
        for line in self._lines:
            self._write(line, Start(rendezvous=rendezvous_of(line)))

    def tell(self, message: StepPlan | Join) -> None:
        for line in self._lines:
            self._write(line, message)

    def hear(self) -> list[FromRank]:
        """One word from each rank over there; a rank that fails ends this process instead."""
        return [self._said.get() for _ in range(self._rank_count)]

    def serve(self) -> None:
        """The start is over: from now on silence is short, and the nodes hear so at once."""
        self._patience_s = self._silence_s
        for line in self._lines:
            line.channel.write_if_free(Beat(patience_s=self._patience_s), _VERDICT_S)

    def await_verdict(self) -> None:
        """After an all-reduce has failed: give the thread time to say which node is to blame, which ends us."""
        if self._is_over.wait(_VERDICT_S):
            threading.Event().wait(_VERDICT_S)

    def _write(self, line: Line, message: Start | StepPlan | Join) -> None:
        try:
            line.channel.write(message)
        except EndOfStream:
            self.await_verdict()
            raise

    def _keep(self) -> None:
        poller = select.poll()
        by_descriptor = {line.fileno(): line for line in self._lines}
        for descriptor in by_descriptor:
            poller.register(descriptor, select.POLLIN)
        beat_at = time.monotonic()
        while not self._is_over.is_set():
            for descriptor, _ in poller.poll(max(0.0, beat_at - time.monotonic()) * 1000):
                self._listen(by_descriptor[descriptor])
            if time.monotonic() >= beat_at:
                self._beat()
                beat_at = time.monotonic() + BEAT_S

    def _listen(self, line: Line) -> None:
        try:
            message = line.channel.read(self._silence_s)
        except TimeoutError:
            self._lose(line, "broke off in the middle of a message")
        except BadFrame as problem:
            self._lose(line, f"said what is no message: {problem}")
        except EndOfStream:
            self._lose(line, "closed its line")
        else:
            self._heard_at[line.node_rank] = time.monotonic()
            self._take(line, message)

    def _take(self, line: Line, message: Proof | Terms | Beat | RankSaid) -> None:
        if not isinstance(message, RankSaid):
            return
        if isinstance(message.message, Fatal):
            problem = f"rank {message.rank} on {line}: {message.message.problem}"
            self._end(Fatal(problem=problem, advice=message.message.advice))
        else:
            self._said.put(message.message)

    def _beat(self) -> None:
        """A line on which a plan is being written just now needs no beat."""
        now = time.monotonic()
        for line in self._lines:
            silent_s = now - self._heard_at[line.node_rank]
            if silent_s > self._patience_s:
                self._lose(line, f"said nothing for {silent_s:.1f} s")
            try:
                line.channel.write_if_free(Beat(patience_s=self._patience_s))
            except EndOfStream:
                self._lose(line, "closed its line")

    def _lose(self, line: Line, what: str) -> None:
        advice = "The engine starts again when that node is back; its log says more."
        self._end(Fatal(problem=f"{line} {what}", advice=advice))

    def _end(self, fatal: Fatal) -> None:
        if not self._is_over.is_set():
            self._is_over.set()
            self._on_lost(fatal)
