"""The second tier over TLS and with an ACL user.

The packaged Valkey is built without TLS, so a TLS end of our own stands in front of a real server: handshake,
certificates and names are real, and the server behind it sees plain commands.
"""

import asyncio
import contextlib
import dataclasses
import math
import ssl
import time

import pytest
import valkey.asyncio as valkey_client
from valkey.exceptions import ValkeyError

from meshkit.clock import SystemClock
from meshkit.testing.valkey import valkey_server
from meshkit.valkey_binary import ValkeyUnavailable, valkey_binary
from services.cache.lifetime import TierLifetime
from services.cache.settings import L2Settings
from services.cache.tier import TierUnavailable
from services.cache.valkey_node import ValkeyNode
from services.cache.valkey_tier import KEY_PREFIX, ValkeyTier
from tests.support.cache_stores import KEY, an_entry
from tests.support.certificates import Authority
from tests.support.real import missing

PATIENCE_S = 10.0
L2 = L2Settings(first_rest_s=0.05, longest_rest_s=0.2, timeout_s=0.5)
"""Longer than in production: a busy test machine must not look like a slow server."""
RIGHTS = ("on", ">s3cret", f"~{KEY_PREFIX.decode()}*", "+get", "+set", "+del", "+scan", "+ping", "+info", "+dbsize")


@pytest.fixture(autouse=True)
def _real_server():
    try:
        valkey_binary()
    except ValkeyUnavailable as problem:
        missing(str(problem))


@pytest.fixture(scope="module")
def authority():
    return Authority()


@contextlib.asynccontextmanager
async def tls_end(tmp_path, authority, server_port: int, *, asks_for_certificate: bool = False):
    """A port that speaks TLS before the server's."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("valkey").write(tmp_path, "server"))
    if asks_for_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=authority.certificate.decode())
    relays = set()

    async def relay(reader, writer):
        relays.add(asyncio.current_task())
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", server_port)
        try:
            await asyncio.gather(copy(reader, behind_writer), copy(behind_reader, writer))
        finally:
            writer.close()
            behind_writer.close()

    end = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    try:
        yield end.sockets[0].getsockname()[1]
    finally:
        end.close()
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)


async def copy(reader, writer) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def tier_at(url: str, **changes):
    tier = ValkeyTier(dataclasses.replace(L2, url=url, **changes), TierLifetime(ttl_s=math.inf), SystemClock())
    watching = asyncio.create_task(tier.watch())
    try:
        yield tier
    finally:
        watching.cancel()
        await tier.close()


async def works(tier) -> None:
    """Return once an entry goes there and back."""
    async with asyncio.timeout(PATIENCE_S):
        while not tier.is_available:
            await asyncio.sleep(0.01)
    await tier.put(KEY, an_entry(wall=time.time()))
    assert await tier.get(KEY) is not None


async def is_never_talked_to(url: str, **changes) -> None:
    """The probe fails with what the library says, and so the tier is never asked."""
    node = ValkeyNode(dataclasses.replace(L2, url=url, **changes), SystemClock())
    with pytest.raises(TierUnavailable) as raised:
        await node.ask_past_breaker("PING")
    assert isinstance(raised.value.__cause__, ValkeyError)
    await node.close()


def ca_file(tmp_path, authority):
    path = tmp_path / "ca.crt"
    path.write_bytes(authority.certificate)
    return path


async def test_a_server_of_our_authority_is_used_over_tls(tmp_path, authority):
    async with (
        valkey_server() as server,
        tls_end(tmp_path, authority, server.port) as port,
        tier_at(f"valkeys://127.0.0.1:{port}/0", ca_file=ca_file(tmp_path, authority)) as tier,
    ):
        await works(tier)


async def test_a_certificate_of_another_authority_or_for_another_name_is_never_talked_to(tmp_path, authority):
    async with valkey_server() as server, tls_end(tmp_path, authority, server.port) as port:
        own, other = ca_file(tmp_path, authority), tmp_path / "other.crt"
        other.write_bytes(Authority().certificate)
        for host, trusted in (("127.0.0.1", other), ("127.0.0.1", None), ("127.0.0.2", own)):
            await is_never_talked_to(f"valkeys://{host}:{port}/0", ca_file=trusted)


async def test_our_own_certificate_is_shown_where_the_server_asks_for_one(tmp_path, authority):
    certificate, key = authority.issue("cache").write(tmp_path, "client")
    async with (
        valkey_server() as server,
        tls_end(tmp_path, authority, server.port, asks_for_certificate=True) as port,
    ):
        url, ca = f"valkeys://127.0.0.1:{port}/0", ca_file(tmp_path, authority)
        async with tier_at(url, ca_file=ca, certificate_file=certificate, key_file=key) as tier:
            await works(tier)
        await is_never_talked_to(url, ca_file=ca)


async def test_an_acl_user_with_the_rights_that_the_docs_name_is_enough_and_a_wrong_password_is_not(tmp_path):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("s3cret\n")
    wrong.write_text("guess\n")
    async with valkey_server() as server:
        async with valkey_client.Valkey.from_url(server.url) as client:
            await client.execute_command("ACL", "SETUSER", "cache", *RIGHTS)
            await client.execute_command("ACL", "SETUSER", "default", "off")
        async with tier_at(server.url, username="cache", password_file=right) as tier:
            await works(tier)
            assert (await tier.size()).entry_count == 1
            assert (await tier.sweep(b"", lambda *_: True, apply=True)).entry_count == 1
        for identity in ({"username": "cache", "password_file": wrong}, {}):
            await is_never_talked_to(server.url, **identity)
