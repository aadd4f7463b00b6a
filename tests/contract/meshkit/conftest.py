"""A raw channel to a running probe, for tests that send bytes."""

import grpc
import pytest_asyncio

from tests.support.probe_service import Probe, running_probe


@pytest_asyncio.fixture
async def probe_channel():
    options = [("grpc.max_send_message_length", -1)]
    async with running_probe(Probe()) as address, grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel
