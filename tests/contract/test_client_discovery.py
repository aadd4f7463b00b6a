"""Which router the callers' client asks: one that Consul names now, and for a decision the one that took it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from mesh.router.v1 import router_service_pb2 as pb
from mesh.router.v1 import router_service_pb2_grpc as pb_grpc
from meshclient import Accepted, Delta, MeshClient
from meshkit.errors import BackendDown, Cancelled
from tests.support.certificates import Authority
from tests.support.fake_consul import fake_consul

DEAD = "127.0.0.1:1"
PATIENCE_S = 5.0


class Router(pb_grpc.RouterServiceServicer):
    """Accepts everything, ends nothing by itself, and knows only the decisions that it took itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.running: set[str] = set()
        self.has_ended = asyncio.Event()

    async def CountTokens(self, request: Any, context: Any) -> pb.CountTokensResponse:
        return pb.CountTokensResponse(prompt_tokens=7)

    async def Cancel(self, request: pb.CancelRequest, context: Any) -> pb.CancelResponse:
        return pb.CancelResponse(cancelled=request.decision_id in self.running)

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[pb.GenerateEvent]:
        decision_id = f"{self.name}-{len(self.running)}"
        self.running.add(decision_id)
        try:
            yield pb.GenerateEvent(accepted=pb.Accepted(decision_id=decision_id))
            await asyncio.Event().wait()
        finally:
            self.has_ended.set()


@contextlib.asynccontextmanager
async def serving(router: Router, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[str]:
    server = grpc.aio.server()
    pb_grpc.add_RouterServiceServicer_to_server(router, server)
    any_port = "127.0.0.1:0"
    port = server.add_secure_port(any_port, credentials) if credentials else server.add_insecure_port(any_port)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def test_what_one_consul_knew_is_not_asked_in_the_name_of_another(tmp_path) -> None:
    async with fake_consul(DEAD) as first, MeshClient.discover(first.url, snapshot_dir=tmp_path) as client:
        with pytest.raises(BackendDown, match="can't be reached"):
            await client.count_tokens("x")
    async with MeshClient.discover("http://127.0.0.1:2", snapshot_dir=tmp_path, timeout_s=0.2) as client:
        with pytest.raises(BackendDown, match="no router is known"):
            await client.count_tokens("x")


async def test_a_router_of_an_earlier_run_is_not_asked_while_consul_is_about_to_answer(tmp_path) -> None:
    async with serving(Router("a")) as address, fake_consul(DEAD) as consul:
        async with MeshClient.discover(consul.url, snapshot_dir=tmp_path) as client:
            with pytest.raises(BackendDown):
                await client.count_tokens("x")
        consul.addresses, consul.delay_s = (address,), 0.1
        async with MeshClient.discover(consul.url, snapshot_dir=tmp_path) as client:
            assert await client.count_tokens("x") == 7


async def test_a_start_while_consul_is_away_asks_the_last_known_router(tmp_path) -> None:
    async with serving(Router("a")) as address, fake_consul(address) as consul:
        async with MeshClient.discover(consul.url, snapshot_dir=tmp_path) as client:
            await client.count_tokens("x")
        consul.delay_s = 60
        async with MeshClient.discover(consul.url, snapshot_dir=tmp_path) as client, asyncio.timeout(PATIENCE_S):
            assert await client.count_tokens("x") == 7


@contextlib.asynccontextmanager
async def clients_of_two(tmp_path) -> AsyncIterator[tuple[MeshClient, MeshClient]]:
    async with (
        serving(Router("a")) as a,
        serving(Router("b")) as b,
        fake_consul(a, b) as consul,
        MeshClient.discover(consul.url, snapshot_dir=tmp_path) as one,
        MeshClient.discover(consul.url, snapshot_dir=tmp_path) as other,
    ):
        yield one, other


async def test_a_decision_is_cancelled_where_it_was_taken(tmp_path) -> None:
    async with clients_of_two(tmp_path) as (client, _):
        for _ in range(3):
            answer = client.generate("x")
            accepted = await anext(aiter(answer))
            assert isinstance(accepted, Accepted)
            assert await client.cancel(accepted.decision_id)
            await answer.close()


async def test_a_decision_that_another_program_asked_for_is_looked_for_at_every_router(tmp_path) -> None:
    async with clients_of_two(tmp_path) as (asker, other):
        accepted = []
        for _ in range(2):
            event = await anext(aiter(asker.generate("x")))
            assert isinstance(event, Accepted)
            accepted.append(event.decision_id)
        assert sorted(accepted) == ["a-0", "b-0"]
        assert [await other.cancel(decision_id) for decision_id in accepted] == [True, True]
        assert not await other.cancel("nobody's")


async def test_an_answer_is_closed_by_another_task_than_its_reader() -> None:
    router, has_begun = Router("a"), asyncio.Event()
    async with serving(router) as address, MeshClient(address) as client:
        answer = client.generate("x")

        async def read() -> None:
            async for event in answer:
                assert not isinstance(event, Delta)
                has_begun.set()

        reading = asyncio.create_task(read())
        async with asyncio.timeout(PATIENCE_S):
            await has_begun.wait()
            await answer.close()
            with pytest.raises(Cancelled):
                await reading
            await router.has_ended.wait()


async def test_an_answer_that_was_closed_before_it_was_read_is_cancelled() -> None:
    async with serving(Router("a")) as address, MeshClient(address) as client:
        answer = client.generate("x")
        await answer.close()
        with pytest.raises(Cancelled):
            await answer.text()


@pytest.mark.parametrize("finds", [True, False], ids=["discovered", "named"])
async def test_a_router_with_mutual_tls_is_asked_with_the_callers_certificate(finds, tmp_path) -> None:
    authority = Authority()
    server, caller = authority.issue("router"), authority.issue("billing")
    requires = grpc.ssl_server_credentials(
        [(server.key, server.certificate)], authority.certificate, require_client_auth=True
    )
    shows = grpc.ssl_channel_credentials(authority.certificate, caller.key, caller.certificate)
    async with serving(Router("a"), requires) as address, fake_consul(address) as consul:
        client = (
            MeshClient.discover(consul.url, snapshot_dir=tmp_path, credentials=shows)
            if finds
            else MeshClient(address, credentials=shows)
        )
        async with client:
            assert await client.count_tokens("x") == 7
        async with MeshClient(address) as stranger:
            with pytest.raises(BackendDown):
                await stranger.count_tokens("x")
