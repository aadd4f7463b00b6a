import asyncio
import contextlib

import pytest
import pytest_asyncio

from meshkit.testing import FaultProxy

SOON_S = 5.0
QUIET_S = 0.05


@pytest_asyncio.fixture
async def echo_address():
    async def echo(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def connect(proxy):
    host, port = proxy.address.split(":")
    return await asyncio.open_connection(host, int(port))


async def said_back(reader, writer, text=b"hello"):
    writer.write(text)
    return await asyncio.wait_for(reader.readexactly(len(text)), SOON_S)


async def test_bytes_pass_both_ways(echo_address):
    async with FaultProxy.to(echo_address) as proxy:
        assert await said_back(*await connect(proxy)) == b"hello"


async def test_a_cut_ends_every_connection_and_new_ones_work(echo_address):
    async with FaultProxy.to(echo_address) as proxy:
        reader, writer = await connect(proxy)
        await said_back(reader, writer)
        proxy.cut()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said_back(reader, writer)
        assert await said_back(*await connect(proxy)) == b"hello"


async def test_a_frozen_link_is_silent_until_it_thaws(echo_address):
    async with FaultProxy.to(echo_address) as proxy:
        reader, writer = await connect(proxy)
        proxy.freeze()
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(5), QUIET_S)
        proxy.thaw()
        assert await asyncio.wait_for(reader.readexactly(5), SOON_S) == b"hello"


async def test_refused_connections_end_at_once_and_open_ones_go_on(echo_address):
    async with FaultProxy.to(echo_address) as proxy:
        before = await connect(proxy)
        await said_back(*before)
        proxy.refuse()
        reader, writer = await connect(proxy)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said_back(reader, writer)
        assert await said_back(*before) == b"hello"
        proxy.refuse(False)
        assert await said_back(*await connect(proxy)) == b"hello"


async def test_a_slow_link_holds_bytes_back(echo_address):
    async with FaultProxy.to(echo_address) as proxy:
        proxy.slow(0.05)
        begun = asyncio.get_running_loop().time()
        assert await said_back(*await connect(proxy)) == b"hello"
        assert asyncio.get_running_loop().time() - begun >= 0.1


async def test_an_absent_target_ends_connections_at_once():
    async with FaultProxy.to("127.0.0.1:1") as proxy:
        reader, writer = await connect(proxy)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said_back(reader, writer)


async def test_leaving_ends_connections_and_tasks_even_of_a_frozen_link(echo_address):
    async with FaultProxy.to(echo_address) as proxy:
        reader, writer = await connect(proxy)
        await said_back(reader, writer)
        proxy.freeze()
        writer.write(b"x")
        await asyncio.sleep(QUIET_S)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await said_back(reader, writer)
