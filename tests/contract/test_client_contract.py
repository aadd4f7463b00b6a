"""The callers' client against a real router."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from mesh.router.v1 import router_service_pb2 as pb
from meshclient import Accepted, Delta, Finished, MeshClient
from meshkit.errors import BackendDown, DeadlineExceeded, InvalidRequest, NotBuilt
from meshkit.testing import FaultProxy
from tests.support.small_mesh import SmallMesh, small_mesh


@pytest.fixture
async def mesh() -> AsyncIterator[SmallMesh]:
    async with small_mesh() as running:
        yield running


async def test_events_are_typed_and_in_order(mesh: SmallMesh) -> None:
    async with MeshClient(mesh.router) as client:
        answer = client.generate("Hello there", temperature=0, max_tokens=32)
        events = [event async for event in answer]
    assert isinstance(events[0], Accepted) and events[0].cache_status == "lead"
    assert all(isinstance(event, Delta) for event in events[1:-1])
    finished = events[-1]
    assert isinstance(finished, Finished) and finished is answer.finished
    assert finished.finish_reason in ("stop", "length") and finished.usage.completion_tokens > 0
    assert finished.timings.total_s is not None and finished.timings.attempts == 1


async def test_text_turns_and_whole_requests_can_be_asked(mesh: SmallMesh) -> None:
    async with MeshClient(mesh.router) as client:
        assert "Hello" in await client.generate("Hello").text()
        assert "Hi" in await client.generate([("user", "Hi")]).text()
        request = pb.GenerateRequest(output={"include_token_ids": True})
        deltas = [event async for event in client.generate("Hello", request=request) if isinstance(event, Delta)]
        assert deltas[0].token_ids
        assert await client.count_tokens("Hello") > 0
        assert [model.name for model in await client.models()] == ["tiny"]


async def test_a_paced_replay_takes_about_as_long_as_the_answer_took_and_never_longer() -> None:
    async with small_mesh(tokens_per_s=50) as slow, MeshClient(slow.router) as client:

        async def ask(*, paced_replay: bool) -> tuple[str, float]:
            times, texts = [], []
            async for event in client.generate("Hello", temperature=0, max_tokens=20, paced_replay=paced_replay):
                if isinstance(event, Delta):
                    times.append(time.monotonic())
                    texts.append(event.text)
            return "".join(texts), times[-1] - times[0]

        text, generated_s = await ask(paced_replay=False)
        again, at_once_s = await ask(paced_replay=False)
        paced, paced_s = await ask(paced_replay=True)
    assert text == again == paced
    assert at_once_s < 0.2 * generated_s
    # The router's times differ from the caller's by what lies between; a busy machine adds some.
    assert 0.8 * generated_s < paced_s < generated_s + 0.3


async def test_a_stale_hit_is_told_as_such_and_the_next_is_fresh() -> None:
    async with small_mesh(stale_s=60) as mesh, MeshClient(mesh.router) as client:
        request = pb.GenerateRequest(cache={"ttl": {"nanos": 50_000_000}})

        async def ask() -> Accepted:
            events = [event async for event in client.generate("Hello", temperature=0, request=request)]
            assert isinstance(events[0], Accepted)
            return events[0]

        assert (await ask()).cache_status == "lead"
        async with asyncio.timeout(10):
            while not (stale := await ask()).is_stale:
                assert stale.cache_status == "hit"
            while (fresh := await ask()).is_stale:
                pass
    assert stale.cache_status == fresh.cache_status == "hit"


async def test_errors_are_those_of_the_mesh(mesh: SmallMesh) -> None:
    async with MeshClient(mesh.router) as client:
        with pytest.raises(InvalidRequest) as refused:
            await client.generate("").text()
        assert refused.value.field == "prompt.text"
        with pytest.raises(NotBuilt):
            await client.generate("x", request=pb.GenerateRequest(constraint={"regex": "a"})).text()


async def test_a_deadline_and_leaving_the_loop_end_the_work() -> None:
    async with small_mesh(tokens_per_s=20) as slow, MeshClient(slow.router) as client:
        endless = pb.GenerateRequest(stopping={"max_tokens": 500, "ignore_eos": True})
        with pytest.raises(DeadlineExceeded):
            await client.generate("x", request=endless, timeout_s=0.3).text()
        answer = client.generate("x", request=endless)
        async for event in answer:
            if isinstance(event, Delta):
                break
        await answer.close()
        async with asyncio.timeout(5):
            await slow.engine_is_idle()


async def test_a_router_that_cannot_be_reached_is_one_clear_error(mesh: SmallMesh) -> None:
    async with FaultProxy.to(mesh.router) as proxy, MeshClient(proxy.address, timeout_s=5) as client:
        assert await client.generate("Hello").text()
        proxy.refuse()
        proxy.cut()
        with pytest.raises(BackendDown, match="can't be reached"):
            await client.generate("Hello").text()
