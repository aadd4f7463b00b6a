"""From an address to an open line on which both ends have proven the secret and node 0 has been told our terms."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeVar

from services.inference.engine.nodes import secret as secrets
from services.inference.engine.nodes.address import Address, address_of
from services.inference.engine.nodes.messages import (
    GREETING_S,
    MAX_GREETING_BYTES,
    Challenge,
    FromNode,
    Proof,
    Proven,
    Refused,
    Terms,
    ToNode,
)
from services.inference.engine.transport import BadFrame, EndOfStream, StreamChannel

M = TypeVar("M", Challenge, Proven)


class NoLine(Exception):
    """Node 0 can't be reached or does not know the secret; another attempt may fare better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """An open line, and this host as node 0 sees it."""

    channel: StreamChannel[FromNode, ToNode]
    local: Address


async def join(address: Address, secret: bytes, terms: Terms) -> Joined:
    """Raises NoLine."""
    try:
        async with asyncio.timeout(GREETING_S):
            reader, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError) as problem:
        raise NoLine(f"node 0 can't be reached at {address}: {_words(problem)}") from None
    greeting: StreamChannel[FromNode, ToNode] = StreamChannel(
        reader, writer, ToNode, max_frame_bytes=MAX_GREETING_BYTES
    )
    try:
        await _greet(greeting, secret)
        await greeting.write(terms)
    except (EndOfStream, BadFrame, TimeoutError):
        await greeting.close()
        raise NoLine(f"what listens at {address} does not speak as node 0 does") from None
    except BaseException:
        await greeting.close()
        raise
    return Joined(channel=StreamChannel(reader, writer, ToNode), local=address_of(writer.get_extra_info("sockname")))


async def _greet(channel: StreamChannel[FromNode, ToNode], secret: bytes) -> None:
    challenge = await _expect(channel, Challenge)
    nonce = secrets.fresh_nonce()
    mac = secrets.prove(secret, "another node", challenge.nonce, nonce)
    await channel.write(Proof(nonce=nonce, mac=mac))
    proven = await _expect(channel, Proven)
    if not secrets.is_proof(proven.mac, secret, "node 0", challenge.nonce, nonce):
        raise NoLine("what listens at nodes.rendezvous does not know the secret")


async def _expect(channel: StreamChannel[FromNode, ToNode], kind: type[M]) -> M:
    async with asyncio.timeout(GREETING_S):
        message = await channel.read()
    if isinstance(message, Refused):
        raise NoLine(f"node 0 turned this host away: {message.problem}")
    if not isinstance(message, kind):
        raise BadFrame(f"{type(message).__name__} where {kind.__name__} was expected")
    return message


def _words(problem: Exception) -> str:
    return (problem.strerror if isinstance(problem, OSError) else None) or str(problem) or "no answer"
