"""SELECTIVE through the router: what the engine reads, what the caller is told, what happens without a compressor."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2 as pb
from meshkit.picker import Picker
from meshkit.settings import ServerSettings
from meshkit.testing import FakeClock, FakeRegistry, running_server
from services.compressor.app import CompressorService, build
from services.compressor.settings import CompressorSettings
from services.router.optional_peer import pick_for
from tests.support.selectors import SentenceOverlap
from tests.support.small_mesh import SmallMesh, small_mesh

FACT = "The old lighthouse of Karsk was built in 1887 by Ivan Petrov. "
FILLER = "The weather in the valley was mild and dull for weeks. "
TURNS = [
    {"role": "tool", "content": FILLER * 8 + FACT},
    {"role": "user", "content": "Who built the lighthouse of Karsk?"},
]
SELECTIVE = common_pb2.COMPRESSION_MODE_SELECTIVE


@contextlib.asynccontextmanager
async def compressing(mesh: SmallMesh) -> AsyncIterator[None]:
    settings = CompressorSettings(server=ServerSettings(port=0))
    made = partial(build, selector=SentenceOverlap())
    async with running_server(settings, made, CompressorService, registry=mesh.registry.as_another_process()):
        yield


async def events_of(mesh: SmallMesh, **compression: Any) -> list[pb.GenerateEvent]:
    request = pb.GenerateRequest(
        prompt={"messages": {"messages": TURNS}},
        compression={"mode": SELECTIVE, **compression},
        sampling={"temperature": 0},
        cache={"mode": common_pb2.CACHE_MODE_EXACT},
    )
    return [event async for event in mesh.stub.Generate(request, timeout=10)]


def text_of(events: list[pb.GenerateEvent]) -> str:
    return "".join(event.delta.text for event in events)


async def test_the_engine_reads_the_selection_and_the_caller_is_told_what_it_saved() -> None:
    async with small_mesh() as mesh, compressing(mesh):
        events = await events_of(mesh, target_ratio=0.4)
        told, finished = events[0].accepted.compression, events[-1].finished
        assert FACT.strip() in text_of(events)
        assert FILLER not in text_of(events)
        assert told.compressed_tokens < 0.5 * told.original_tokens
        assert told.token_reduction == pytest.approx(1 - told.compressed_tokens / told.original_tokens)
        assert finished.usage.compressed_from_tokens == told.original_tokens
        assert finished.usage.prompt_tokens == told.compressed_tokens


async def test_below_the_callers_floor_the_engine_reads_the_original() -> None:
    async with small_mesh() as mesh, compressing(mesh):
        events = await events_of(mesh, target_ratio=0.4, min_quality=0.999)
        assert FILLER in text_of(events)
        assert "below the floor" in events[0].accepted.compression.reason_original_kept
        assert events[-1].finished.usage.compressed_from_tokens == 0


async def test_another_target_is_another_answer_to_the_cache() -> None:
    async with small_mesh() as mesh, compressing(mesh):
        first = await events_of(mesh, target_ratio=0.4)
        again = await events_of(mesh, target_ratio=0.4)
        other = await events_of(mesh, target_ratio=1.0)
        assert again[0].accepted.cache_status == common_pb2.CACHE_STATUS_HIT
        assert other[0].accepted.cache_status != common_pb2.CACHE_STATUS_HIT
        assert text_of(again) == text_of(first) != text_of(other)


async def test_without_a_compressor_the_original_is_answered() -> None:
    async with small_mesh() as mesh:
        events = await events_of(mesh, target_ratio=0.4)
        assert FILLER in text_of(events)
        assert not events[0].accepted.HasField("compression")


def test_a_conversation_stays_with_one_compressor_until_that_one_fails() -> None:
    registry = FakeRegistry()
    for port in range(1, 6):
        registry.announce("mesh-compressor", f"127.0.0.1:{port}")
    picker = Picker(registry.watch("mesh-compressor"), FakeClock())
    chosen = pick_for(picker, "a\0s")
    assert {pick_for(picker, "a\0s").id for _ in range(10)} == {chosen.id}
    assert len({pick_for(picker, f"a\0{number}").id for number in range(40)}) > 1
    picker.failed(chosen)
    assert pick_for(picker, "a\0s").id != chosen.id
