"""Rules of what the router sends to an engine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from mesh.inference.v1 import inference_service_pb2
from mesh.router.v1 import router_service_pb2
from meshkit.registry.base import Instance
from services.router.engine_client import EngineClient
from services.router.question import Objectives, Question

INSTANCE = Instance(id="i1", service="mesh-inference", address="127.0.0.1:1", metadata={"model": "m"})


class Recording:
    """Stands for channels and calls; keeps the messages."""

    def __init__(self) -> None:
        self.sent: list[inference_service_pb2.GenerateRequest] = []

    def stub(self, kind: Any, address: str) -> Any:
        return SimpleNamespace(Generate=None)

    @contextlib.asynccontextmanager
    async def stream(self, method: Any, message: Any, **_: Any) -> AsyncIterator[AsyncIterator[Any]]:
        self.sent.append(message)
        yield aiter(_nothing())


async def _nothing() -> AsyncIterator[Any]:
    return
    yield


async def sent_for(objectives: Objectives, *, timeout_s: float) -> inference_service_pb2.GenerateRequest:
    recording = Recording()
    client = EngineClient(channels=recording, calls=recording)  # type: ignore[arg-type]
    request = router_service_pb2.GenerateRequest(prompt={"text": "x"})
    question = Question(payload=request, tenant="t", principal="p", trace_id="", objectives=objectives, timeout_s=10.0)
    async with client.generate(INSTANCE, question, None, "r", timeout_s):
        pass
    return recording.sent[0]


@pytest.mark.parametrize(
    ("wish_s", "left_ms"), [(2.0, 1500), (0.5, 1), (0.1, 1), (1e9, 86_400_000)], ids=["part", "all", "over", "endless"]
)
async def test_engine_is_told_what_is_left_of_the_time_to_the_first_token(wish_s: float, left_ms: int) -> None:
    message = await sent_for(Objectives(ttft_s=wish_s), timeout_s=9.5)
    assert message.ttft_slo.ToMilliseconds() == left_ms


async def test_without_an_objective_nothing_is_wished() -> None:
    assert not (await sent_for(Objectives(), timeout_s=9.5)).HasField("ttft_slo")
