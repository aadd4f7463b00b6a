"""Who may lend ranks to an engine: who knows the secret and is set up alike; before the proof nobody hears anything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from services.inference.engine.nodes import gate as gate_module
from services.inference.engine.nodes.address import Address, parse_address
from services.inference.engine.nodes.gate import Gate, NodesMissing
from services.inference.engine.nodes.lines import Line
from services.inference.engine.nodes.messages import (
    Challenge,
    FromNode,
    Proof,
    Proven,
    Refused,
    Start,
    Terms,
    ToNode,
)
from services.inference.engine.nodes.secret import NONCE_BYTES
from services.inference.engine.transport import BlockingChannel, EndOfStream, StreamChannel
from services.inference.node.joining import Joined, NoLine, join
from tests.support.free_port import free_port

SECRET = b"0123456789abcdef0123456789abcdef"
TERMS = Terms(
    node_rank=0,
    version="1",
    torch="2",
    weights="aaaa",
    nodes=2,
    ranks=2,
    device="cpu",
    dtype="float32",
    quantization="none",
    kv_tokens=2048,
    max_sequences=16,
)


def terms(**changes: Any) -> Terms:
    return msgspec.structs.replace(TERMS, **{"node_rank": 1, **changes})


class OpenGate:
    """A gate that waits in a thread, and what it said."""

    def __init__(self, ours: Terms, within_s: float) -> None:
        self.said: list[str] = []
        self.address = Address(host="127.0.0.1", port=free_port())
        gate = Gate(self.address, ours, SECRET, self.said.append)
        self.lines: asyncio.Future[list[Line]] = asyncio.ensure_future(asyncio.to_thread(gate.wait_for_all, within_s))

    def stranger(self) -> BlockingChannel[FromNode, ToNode]:
        return BlockingChannel(socket.create_connection((self.address.host, self.address.port)), ToNode)


@contextlib.asynccontextmanager
async def opened(ours: Terms = TERMS, within_s: float = 20.0) -> AsyncIterator[OpenGate]:
    gate = OpenGate(ours, within_s)
    try:
        async with asyncio.timeout(30):
            yield gate
    finally:
        for line in await gate.lines if not gate.lines.done() or gate.lines.exception() is None else []:
            line.close()


async def test_node_with_the_secret_and_the_same_terms_is_let_in() -> None:
    async with opened() as gate:
        joined = await join(gate.address, SECRET, terms())
        (line,) = await gate.lines
        assert (line.node_rank, line.local.host) == (1, joined.local.host)
        line.channel.write(Start(rendezvous="tcp://x"))
        assert await next_but_beats(joined) == Start(rendezvous="tcp://x")
        await joined.channel.close()


async def test_node_with_another_secret_is_turned_away_and_the_gate_stays_open() -> None:
    async with opened() as gate:
        with pytest.raises(NoLine, match=r"nodes\.secret_file"):
            await join(gate.address, b"another" * 10, terms())
        joined = await join(gate.address, SECRET, terms())
        assert len(await gate.lines) == 1
        assert "secret" in gate.said[0] and "joined" in gate.said[1]
        await joined.channel.close()


@pytest.mark.parametrize(
    ("changed", "ours", "theirs"),
    [
        ({"weights": "bbbb"}, "aaaa", "bbbb"),
        ({"ranks": 4}, "2", "4"),
        ({"dtype": "bfloat16"}, "float32", "bfloat16"),
        ({"quantization": "int8"}, "none", "int8"),
        ({"device": "cuda"}, "cpu", "cuda"),
        ({"torch": "3"}, '"2"', '"3"'),
        ({"kv_tokens": 4096}, "2048", "4096"),
    ],
)
async def test_node_with_other_terms_is_turned_away_with_both_values(
    changed: dict[str, Any], ours: str, theirs: str
) -> None:
    async with opened() as gate:
        joined = await join(gate.address, SECRET, terms(**changed))
        refused = await next_but_beats(joined)
        assert isinstance(refused, Refused)
        for told in (refused.problem, await said(gate)):
            assert next(iter(changed)) in told and ours in told and theirs in told
        await joined.channel.close()
        await let_in(gate)


@pytest.mark.parametrize("node_rank", [0, 2, -1])
async def test_number_that_no_other_node_can_have_is_turned_away(node_rank: int) -> None:
    async with opened() as gate:
        joined = await join(gate.address, SECRET, terms(node_rank=node_rank))
        refused = await next_but_beats(joined)
        assert isinstance(refused, Refused) and "nodes.rank" in refused.problem
        await joined.channel.close()
        await let_in(gate)


@pytest.mark.parametrize(
    "spoken",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
        b"",
    ],
    ids=["http", "a huge frame", "no message", "nothing"],
)
async def test_stranger_that_speaks_otherwise_or_not_at_all_keeps_nobody_out(
    monkeypatch: pytest.MonkeyPatch, spoken: bytes
) -> None:
    monkeypatch.setattr(gate_module, "GREETING_S", 0.3)
    async with opened() as gate:
        with socket.create_connection((gate.address.host, gate.address.port)) as stranger:
            stranger.sendall(spoken)
            await let_in(gate)
        assert "did not speak as a node does" in gate.said[0]


@pytest.mark.parametrize(
    "proof",
    [
        lambda nonce: Proof(nonce=nonce, mac=b""),
        lambda nonce: Proof(nonce=b"", mac=b"x" * 32),
        lambda nonce: terms(),
    ],
    ids=["empty", "no nonce", "terms before the proof"],
)
async def test_nothing_is_told_before_the_proof_but_a_challenge_and_a_refusal(
    proof: Callable[[bytes], FromNode],
) -> None:
    async with opened() as gate:
        stranger = gate.stranger()
        challenge = await asyncio.to_thread(stranger.read)
        assert isinstance(challenge, Challenge) and len(challenge.nonce) == NONCE_BYTES
        stranger.write(proof(challenge.nonce))
        assert isinstance(await asyncio.to_thread(stranger.read), Refused)
        with pytest.raises(EndOfStream):
            await asyncio.to_thread(stranger.read)
        stranger.close()
        await let_in(gate)


async def test_challenges_never_repeat() -> None:
    async with opened() as gate:
        nonces = set()
        for _ in range(3):
            stranger = gate.stranger()
            challenge = await asyncio.to_thread(stranger.read)
            assert isinstance(challenge, Challenge)
            nonces.add(challenge.nonce)
            stranger.close()
        assert len(nonces) == 3
        await let_in(gate)


@pytest.mark.parametrize("thrown_back", [True, False], ids=["the node's own proof", "no proof"])
async def test_node_says_nothing_of_itself_to_who_does_not_know_the_secret(thrown_back: bool) -> None:
    heard: list[object] = []

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel: StreamChannel[ToNode, FromNode] = StreamChannel(reader, writer, FromNode)
        await channel.write(Challenge(nonce=b"n" * NONCE_BYTES))
        proof = await channel.read()
        assert isinstance(proof, Proof)
        await channel.write(Proven(mac=proof.mac if thrown_back else b"x" * 32))
        with contextlib.suppress(EndOfStream):
            heard.append(await channel.read())
        await channel.close()

    async with asyncio.timeout(20), await asyncio.start_server(impostor, "127.0.0.1", 0) as server:
        port = int(server.sockets[0].getsockname()[1])
        with pytest.raises(NoLine, match="does not know the secret"):
            await join(Address(host="127.0.0.1", port=port), SECRET, terms())
    assert heard == []


async def test_wait_that_was_in_vain_names_the_missing_node_and_who_was_turned_away() -> None:
    async with opened(within_s=1.0) as gate:
        joined = await join(gate.address, SECRET, terms(weights="bbbb"))
        with pytest.raises(NodesMissing) as missing:
            await gate.lines
        await joined.channel.close()
    assert "node 1 did not join" in missing.value.fatal.problem and "bbbb" in missing.value.fatal.problem


async def test_node_that_leaves_while_others_are_awaited_must_join_again() -> None:
    three = {"nodes": 3, "ranks": 3}
    async with opened(terms(node_rank=0, **three)) as gate:
        first = await join(gate.address, SECRET, terms(**three))
        await said(gate)
        await first.channel.close()
        while not any("went away again" in line for line in gate.said):
            await asyncio.sleep(0.01)
        joined = [await join(gate.address, SECRET, terms(node_rank=rank, **three)) for rank in (2, 1)]
        assert [line.node_rank for line in await gate.lines] == [1, 2]
        for one in joined:
            await one.channel.close()


async def test_taken_address_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(NodesMissing) as problem:
        Gate(Address(host="127.0.0.1", port=taken.getsockname()[1]), TERMS, SECRET, print)
    assert "in use" in problem.value.fatal.problem and "nodes.rendezvous" in problem.value.fatal.advice


@pytest.mark.parametrize(
    ("text", "host", "port"), [("a.b:1", "a.b", 1), ("10.0.0.1:50071", "10.0.0.1", 50071), ("[::1]:7", "::1", 7)]
)
def test_addresses_are_read_as_they_are_written(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert (address.host, address.port, str(address)) == (host, port, text)


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:0", "host:70000", "::1:5", "host:x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


async def said(gate: OpenGate) -> str:
    while not gate.said:
        await asyncio.sleep(0.01)
    return gate.said[0]


async def next_but_beats(joined: Joined) -> object:
    while type(message := await joined.channel.read()).__name__ == "Beat":
        pass
    return message


async def let_in(gate: OpenGate) -> None:
    """The gate still lets a right node in."""
    joined = await join(gate.address, SECRET, terms())
    await gate.lines
    await joined.channel.close()
