"""Mode ABSTRACTIVE with real services: an inference instance of the named tier sums up, for whom the policy allows it.

The engine is the echo engine: a "summary" is the first bytes of what it was asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import grpc
import pytest

from mesh.common.v1 import common_pb2
from mesh.compressor.v1 import compressor_service_pb2 as pb
from mesh.compressor.v1.compressor_service_pb2_grpc import CompressorServiceStub
from mesh.router.v1 import router_service_pb2
from meshkit.identity import TENANT_KEY
from meshkit.settings import ServerSettings
from meshkit.testing import running_server
from services.compressor.app import CompressorService, build
from services.compressor.settings import CompressorSettings, SummarySettings
from tests.support.selectors import SentenceOverlap
from tests.support.small_mesh import SmallMesh, small_mesh

FACT = "The old lighthouse of Karsk was built in 1887 by Ivan Petrov. "
FILLER = "The weather in the valley was mild and dull for weeks. "
TURNS = [
    {"role": "tool", "content": FILLER * 40 + FACT},
    {"role": "user", "content": "Who built the lighthouse of Karsk?"},
]
ABSTRACTIVE = common_pb2.COMPRESSION_MODE_ABSTRACTIVE


@contextlib.asynccontextmanager
async def compressing(mesh: SmallMesh, **summary) -> AsyncIterator[CompressorServiceStub]:
    settings = CompressorSettings(server=ServerSettings(port=0), summary=SummarySettings(**summary))
    made = partial(build, selector=SentenceOverlap())
    server = running_server(settings, made, CompressorService, registry=mesh.registry.as_another_process())
    async with server as address, grpc.aio.insecure_channel(address) as channel:
        yield CompressorServiceStub(channel)


async def compressed(stub: CompressorServiceStub, tenant: str = "a") -> pb.CompressResponse:
    request = pb.CompressRequest(prompt={"messages": {"messages": TURNS}}, mode=ABSTRACTIVE, target_ratio=0.4)
    request.prices.input_micro_usd = 1_000_000_000
    return await stub.Compress(request, timeout=10, metadata=((TENANT_KEY, tenant),))


def stages(reply: pb.CompressResponse) -> list[str]:
    return [stage.stage for stage in reply.stages if stage.loss_class == pb.LOSS_CLASS_ABSTRACTIVE]


async def test_an_instance_of_the_tier_sums_up_what_was_left_out_and_is_paid_for() -> None:
    async with small_mesh() as mesh:
        async with compressing(mesh, tier="standard", output_micro_usd=10_000_000) as stub:
            paid = await compressed(stub)
        async with compressing(mesh, tier="standard") as stub:
            free = await compressed(stub)
        text = paid.compressed.messages.messages[0].content
        assert text.startswith("[summary: ")
        assert FACT in text
        assert stages(paid) == ["summary"]
        assert paid.compressed_tokens < 0.5 * paid.original_tokens
        assert paid.net_benefit_micro_usd < free.net_benefit_micro_usd


@pytest.mark.parametrize(
    "policy",
    [{}, {"tier": "standard", "tenants": ("b",)}, {"tier": "fast"}],
    ids=["no tier is named", "another tenant's right", "nobody serves the tier"],
)
async def test_else_the_selection_goes_out(policy) -> None:
    async with small_mesh() as mesh, compressing(mesh, **policy) as stub:
        reply = await compressed(stub)
        assert reply.compressed.messages.messages[0].content == f"[…] {FACT}"
        assert reply.compressed_tokens < 0.1 * reply.original_tokens


async def test_a_tier_that_is_too_slow_costs_its_time_out_and_no_more() -> None:
    async with small_mesh(tokens_per_s=0.5) as mesh, compressing(mesh, tier="standard", timeout_s=0.2) as stub:
        reply = await compressed(stub)
        assert reply.compressed.messages.messages[0].content == f"[…] {FACT}"
        await mesh.engine_is_idle()


async def test_the_router_passes_the_mode_on() -> None:
    async with small_mesh() as mesh, compressing(mesh, tier="standard"):
        request = router_service_pb2.GenerateRequest(
            prompt={"messages": {"messages": TURNS}},
            compression={"mode": ABSTRACTIVE, "target_ratio": 0.4},
            sampling={"temperature": 0},
        )
        events = [event async for event in mesh.stub.Generate(request, timeout=10)]
        assert "[summary: " in "".join(event.delta.text for event in events)
        assert events[0].accepted.compression.token_reduction > 0.5
