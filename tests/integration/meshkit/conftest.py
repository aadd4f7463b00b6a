"""One Consul agent for all tests of this folder, and a fresh one for tests that harm it."""

import asyncio

import pytest
import pytest_asyncio

from meshkit.consul_binary import ConsulUnavailable, obtain_consul
from meshkit.testing.consul import consul_agent
from tests.support.real import missing


@pytest.fixture(scope="module")
def consul_binary():
    try:
        return obtain_consul()
    except ConsulUnavailable as problem:
        missing(str(problem))


@pytest.fixture(scope="module")
def consul_url(consul_binary):
    loop = asyncio.new_event_loop()
    running = consul_agent()
    yield loop.run_until_complete(running.__aenter__()).url
    loop.run_until_complete(running.__aexit__(None, None, None))
    loop.close()


@pytest_asyncio.fixture
async def agent(consul_binary):
    async with consul_agent() as agent:
        yield agent
