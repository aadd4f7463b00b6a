"""Conversations over two inference processes: each goes on where its prefix lies, also after that engine is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from mesh.router.v1 import router_service_pb2 as pb
from mesh.router.v1 import router_service_pb2_grpc
from tests.support.local_mesh import LocalMesh
from tests.support.more_instances import another

PATIENCE_S = 60.0
CONVERSATIONS = 12
Turns = list[dict[str, str]]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[LocalMesh]:
    environment = {"MESH_INFERENCE_ENGINE__KIND": "echo"}
    mesh = LocalMesh(tmp_path_factory.mktemp("placement") / "run", str(tiny_model), environment=environment)
    mesh.up("--prompt", "")
    yield mesh
    mesh.down()


class Talk:
    """One conversation with the mesh, its whole history sent with each turn."""

    def __init__(self, stub: router_service_pb2_grpc.RouterServiceAsyncStub, number: int) -> None:
        self._stub = stub
        system = f"{number:03} is your number. " + f"Rule {number}: be brief and be right. " * 15
        self.turns: Turns = [{"role": "system", "content": system}]
        self.instances: list[str] = []
        self.cached_counts: list[int] = []

    async def say(self, text: str) -> None:
        self.turns.append({"role": "user", "content": text})
        request = pb.GenerateRequest(prompt={"messages": {"messages": self.turns}}, stopping={"max_tokens": 16})
        reply = await self._stub.GenerateOnce(request, timeout=PATIENCE_S)
        self.turns.append({"role": "assistant", "content": reply.text})
        self.instances.append(reply.accepted.instance)
        self.cached_counts.append(reply.finished.usage.cached_prompt_tokens)


async def until_both_serve(stub: router_service_pb2_grpc.RouterServiceAsyncStub) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await stub.ListModels(pb.ListModelsRequest())).models[0].ready_count < 2:
            pass


async def test_a_conversation_stays_with_the_engine_that_has_its_prefix_and_moves_when_that_is_gone(
    mesh: LocalMesh,
) -> None:
    with another(mesh, "inference") as second:
        async with grpc.aio.insecure_channel(mesh.router) as channel:
            stub = router_service_pb2_grpc.RouterServiceStub(channel)
            await until_both_serve(stub)
            talks = [Talk(stub, number) for number in range(CONVERSATIONS)]
            for text in ("What comes first?", "And then?", "And last?"):
                for talk in talks:
                    await talk.say(text)
            firsts = {talk.instances[0] for talk in talks}
            assert len(firsts) == 2, "both engines got some"
            for talk in talks:
                assert len(set(talk.instances)) == 1, talk.instances
                assert talk.cached_counts[0] < 32 and min(talk.cached_counts[1:]) > 200, talk.cached_counts
            second.process.kill()
            for talk in talks:
                await talk.say("Still there?")
            left = {talk.instances[-1] for talk in talks}
            assert len(left) == 1 and left < firsts
