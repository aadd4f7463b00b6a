"""An agent that answers health queries with the instances that a test names."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web


class FakeConsul:
    """`addresses` are the instances of every service; `delay_s` is how long an answer takes."""

    def __init__(self, *addresses: str, delay_s: float = 0.0) -> None:
        self.addresses = addresses
        self.delay_s = delay_s
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        if "index" in request.query:
            await asyncio.Event().wait()
        await asyncio.sleep(self.delay_s)
        return web.json_response([_row(address) for address in self.addresses], headers={"X-Consul-Index": "1"})


@contextlib.asynccontextmanager
async def fake_consul(*addresses: str, delay_s: float = 0.0) -> AsyncIterator[FakeConsul]:
    """One on a free port."""
    consul = FakeConsul(*addresses, delay_s=delay_s)
    application = web.Application()
    application.router.add_get("/v1/health/service/{service}", consul.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    consul.url = "http://{}:{}".format(*runner.addresses[0])
    try:
        yield consul
    finally:
        await runner.cleanup()


def _row(address: str) -> dict[str, object]:
    host, _, port = address.rpartition(":")
    service = {"ID": address, "Address": host, "Port": int(port), "Meta": {}}
    return {"Node": {"Address": host}, "Service": service, "Checks": [{"Status": "passing", "Output": ""}]}
