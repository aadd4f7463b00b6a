"""Where other nodes come in, on node 0: each proves the secret, then shows its terms; what doesn't fit is turned away.

Nothing is believed, and nothing told, before the proof. The gate is closed as soon as all are there.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from services.inference.engine.faults import RankFailed
from services.inference.engine.messages import Fatal
from services.inference.engine.nodes import secret as secrets
from services.inference.engine.nodes.address import Address, address_of
from services.inference.engine.nodes.lines import START_PATIENCE_S, Line, NodeChannel
from services.inference.engine.nodes.messages import (
    BEAT_S,
    GREETING_S,
    MAX_GREETING_BYTES,
    Beat,
    Challenge,
    FromNode,
    Proof,
    Proven,
    Refused,
    Terms,
)
from services.inference.engine.nodes.terms import disagreement
from services.inference.engine.transport import BadFrame, BlockingChannel, EndOfStream

_BACKLOG = 16


class NodesMissing(RankFailed):
    """The engine can't start without all of its nodes."""


class _TurnedAway(Exception):
    """Why a caller is not let in. `told` is what it hears: less, until it has proven the secret."""

    def __init__(self, problem: str, told: str) -> None:
        super().__init__(problem)
        self.told = told


class Gate:
    """Listens from the start. `say` tells the operator who came and who was turned away."""

    def __init__(self, address: Address, terms: Terms, secret: bytes, say: Callable[[str], None]) -> None:
        self._address, self._terms, self._secret, self._say = address, terms, secret, say
        self._listener = listen(address)
        self._lines: dict[int, Line] = {}
        self._last_refusal = ""

    def wait_for_all(self, within_s: float) -> list[Line]:
        """One line to each node, in their order. Raises NodesMissing."""
        until = time.monotonic() + within_s
        with self._listener:
            while missing := self._missing():
                if time.monotonic() > until:
                    raise NodesMissing(self._nobody(missing, within_s))
                self._look_about()
        return [self._lines[rank] for rank in sorted(self._lines)]

    def _missing(self) -> list[int]:
        return [rank for rank in range(1, self._terms.nodes) if rank not in self._lines]

    def _look_about(self) -> None:
        """Take in what comes within a beat, then send one to those who wait for the others."""
        poller = select.poll()
        for descriptor in (self._listener.fileno(), *(line.fileno() for line in self._lines.values())):
            poller.register(descriptor, select.POLLIN)
        readable = {descriptor for descriptor, _ in poller.poll(BEAT_S * 1000)}
        for line in list(self._lines.values()):
            if not _is_alive(line, line.fileno() in readable):
                self._say(f"node {line.node_rank} at {line.peer} went away again")
                self._lines.pop(line.node_rank).close()
        if self._listener.fileno() in readable:
            self._let_in()

    def _let_in(self) -> None:
        try:
            sock, name = self._listener.accept()
        except OSError:
            return
        peer = address_of(name)
        try:
            line = self._greet(sock, peer)
        except _TurnedAway as reason:
            self._last_refusal = f"{peer} was turned away: {reason}"
            self._say(self._last_refusal)
            _tell(sock, Refused(problem=reason.told))
        else:
            if line.node_rank in self._lines:
                self._lines[line.node_rank].close()
            self._lines[line.node_rank] = line
            self._say(f"node {line.node_rank} joined from {peer}")

    def _greet(self, sock: socket.socket, peer: Address) -> Line:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel: NodeChannel = BlockingChannel(sock, FromNode, max_frame_bytes=MAX_GREETING_BYTES)
        try:
            self._require_proof(channel)
            terms = channel.read(GREETING_S)
        except (EndOfStream, BadFrame, TimeoutError) as problem:
            raise _TurnedAway("it did not speak as a node does", "speak as a node does") from problem
        if not isinstance(terms, Terms):
            raise _TurnedAway("it did not say its terms", "say your terms")
        if problem_with := disagreement(self._terms, terms):
            raise _TurnedAway(f"node {terms.node_rank}: {problem_with}", problem_with)
        return Line(terms.node_rank, peer, sock)

    def _require_proof(self, channel: NodeChannel) -> None:
        nonce = secrets.fresh_nonce()
        channel.write(Challenge(nonce=nonce))
        proof = channel.read(GREETING_S)
        if not isinstance(proof, Proof) or not secrets.is_proof(
            proof.mac, self._secret, "another node", nonce, proof.nonce
        ):
            problem = "its secret is another one than that of node 0; give both the same nodes.secret_file"
            raise _TurnedAway(problem, problem)
        channel.write(Proven(mac=secrets.prove(self._secret, "node 0", nonce, proof.nonce)))

    def _nobody(self, missing: list[int], within_s: float) -> Fatal:
        names = ", ".join(f"node {rank}" for rank in missing)
        problem = f"{names} did not join at {self._address} within {within_s:g} s"
        return Fatal(
            problem=f"{problem}; {self._last_refusal}" if self._last_refusal else problem,
            advice="Look into that host's log, and whether it reaches this address.",
        )


def listen(address: Address) -> socket.socket:
    """A listening socket on that address alone; port 0 lets the system choose. Raises NodesMissing."""
    try:
        family, _, _, _, name = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(name[:2], family=family, backlog=_BACKLOG)
    except OSError as problem:
        advice = "Set nodes.rendezvous to an address of this host, or nodes.listen_host to one beside it."
        raise NodesMissing(Fatal(problem=f"can't listen on {address}: {problem.strerror}", advice=advice)) from problem


def _is_alive(line: Line, is_readable: bool) -> bool:
    """Nothing but beats is expected yet."""
    try:
        if is_readable and not isinstance(line.channel.read(GREETING_S), Beat):
            return False
        line.channel.write_if_free(Beat(patience_s=START_PATIENCE_S))
    except (EndOfStream, BadFrame, TimeoutError):
        return False
    return True


def _tell(sock: socket.socket, refused: Refused) -> None:
    with sock:
        try:
            BlockingChannel[Refused, Refused](sock, Refused).write(refused)
        except EndOfStream:
            pass
