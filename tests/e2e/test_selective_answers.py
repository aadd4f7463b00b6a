"""SELECTIVE over real processes: the engine, which repeats what it reads, gets what the packaged selector kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2 as pb
from mesh.router.v1 import router_service_pb2_grpc
from tests.support.local_mesh import LocalMesh

PATIENCE_S = 60.0
FACT = "The old lighthouse of Karsk was built in 1887 by Ivan Petrov."
OTHERS = " ".join(f"In spring {year} the weather in the valley was mild and rather dull." for year in range(1950, 1980))
TURNS = [
    {"role": "tool", "content": f"{OTHERS[: len(OTHERS) // 2]} {FACT} {OTHERS[len(OTHERS) // 2 :]}"},
    {"role": "user", "content": "Who built the lighthouse of Karsk?"},
]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[LocalMesh]:
    environment = {"MESH_INFERENCE_ENGINE__KIND": "echo"}
    mesh = LocalMesh(tmp_path_factory.mktemp("selection") / "run", str(tiny_model), environment=environment)
    mesh.up("--prompt", "")
    yield mesh
    mesh.down()


async def answer(mesh: LocalMesh, mode: int, **compression: Any) -> pb.GenerateOnceResponse:
    request = pb.GenerateRequest(
        prompt={"messages": {"messages": TURNS}},
        compression={"mode": mode, **compression},
        stopping={"max_tokens": 4000},
    )
    async with grpc.aio.insecure_channel(mesh.router) as channel:
        return await router_service_pb2_grpc.RouterServiceStub(channel).GenerateOnce(request, timeout=PATIENCE_S)


async def test_what_answers_the_question_reaches_the_engine_and_most_else_does_not(mesh: LocalMesh) -> None:
    whole = await answer(mesh, common_pb2.COMPRESSION_MODE_LOSSLESS)
    chosen = await answer(mesh, common_pb2.COMPRESSION_MODE_SELECTIVE, target_ratio=0.3)
    told = chosen.accepted.compression
    assert OTHERS[:400] in whole.text
    assert FACT in chosen.text
    assert len(chosen.text) < 0.5 * len(whole.text)
    assert not told.reason_original_kept
    assert told.compressed_tokens < 0.5 * told.original_tokens
    assert chosen.finished.usage.prompt_tokens < 0.5 * whole.finished.usage.prompt_tokens


async def test_a_floor_that_selection_can_not_promise_sends_the_original(mesh: LocalMesh) -> None:
    kept = await answer(mesh, common_pb2.COMPRESSION_MODE_SELECTIVE, target_ratio=0.3, min_quality=0.999)
    assert OTHERS[:400] in kept.text
    assert "below the floor" in kept.accepted.compression.reason_original_kept
