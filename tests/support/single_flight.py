"""A crowd that asks several routers the same question at the same time, and how often an engine was asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import aiohttp
import grpc
from prometheus_client.parser import text_string_to_metric_families

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2 as pb
from mesh.router.v1 import router_service_pb2_grpc
from meshkit.telemetry import names

PATIENCE_S = 120.0
GENERATE = "mesh.inference.v1.InferenceService/Generate"


async def generation_count(metrics_port: int) -> int:
    """How many generations an inference instance was asked for, those that have ended."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{metrics_port}/metrics") as reply:
        families = text_string_to_metric_families(await reply.text())
    return sum(
        int(sample.value)
        for family in families
        for sample in family.samples
        if sample.name == f"{names.METRIC_RPC_DURATION}_count" and sample.labels["method"].endswith(GENERATE)
    )


@dataclass(slots=True, kw_only=True)
class _Caller:
    """One caller's stream so far."""

    address: str
    call: grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateEvent] | None = None
    status: int = common_pb2.CACHE_STATUS_UNSPECIFIED
    texts: list[str] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    is_finished: bool = False
    failure: grpc.StatusCode | None = None


class Crowd:
    """Callers of one question, spread over routers. Iterate by `async with Crowd.asking(...)`."""

    def __init__(self, callers: Sequence[_Caller]) -> None:
        self._callers = callers
        self._changed = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def asking(
        cls, addresses: Sequence[str], text: str, *, callers: int, max_tokens: int, uses_cache: bool = True
    ) -> AsyncIterator[Crowd]:
        """All ask at once; the block's end cancels who is still reading."""
        crowd = cls([_Caller(address=addresses[number % len(addresses)]) for number in range(callers)])
        request = pb.GenerateRequest(
            prompt={"text": text},
            sampling={"temperature": 0},
            stopping={"max_tokens": max_tokens, "ignore_eos": True},
            cache={"mode": common_pb2.CACHE_MODE_UNSPECIFIED if uses_cache else common_pb2.CACHE_MODE_OFF},
        )
        async with contextlib.AsyncExitStack() as stack:
            channels = {
                address: await stack.enter_async_context(grpc.aio.insecure_channel(address)) for address in addresses
            }
            reading = [asyncio.create_task(crowd._read(one, channels[one.address], request)) for one in crowd._callers]
            try:
                yield crowd
            finally:
                for task in reading:
                    task.cancel()
                await asyncio.wait(reading)

    @property
    def led_count(self) -> int:
        """Callers that were told that they lead, or that nobody else generates."""
        generating = (common_pb2.CACHE_STATUS_LEAD, common_pb2.CACHE_STATUS_MISS)
        return sum(one.status in generating for one in self._callers)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Router and status of each caller that got no whole answer."""
        return [(one.address, one.failure.name) for one in self._callers if one.failure is not None]

    async def leader(self) -> str:
        """The router whose caller leads, as soon as that is known."""
        await self._until(lambda: self._leading() is not None)
        leading = self._leading()
        assert leading is not None
        return leading.address

    async def cancel_leader(self) -> None:
        """The leading caller goes away."""
        leading = self._leading()
        assert leading is not None and leading.call is not None
        leading.call.cancel()

    async def everybody_has_some(self) -> None:
        """Return when each caller has text and none has finished."""
        await self._until(lambda: all(one.texts for one in self._callers))
        assert not any(one.is_finished for one in self._callers)

    async def answers(self) -> list[str]:
        """The texts of those whose stream ended well, once all streams have ended."""
        await self._until(lambda: all(one.is_finished or one.failure for one in self._callers))
        for one in self._callers:
            assert one.seqs == list(range(one.seqs[0], one.seqs[0] + len(one.seqs))) if one.seqs else True
        return ["".join(one.texts) for one in self._callers if one.is_finished]

    async def _read(self, one: _Caller, channel: grpc.aio.Channel, request: pb.GenerateRequest) -> None:
        one.call = router_service_pb2_grpc.RouterServiceStub(channel).Generate(request, timeout=PATIENCE_S)
        try:
            async for event in one.call:
                self._take(one, event)
        except grpc.aio.AioRpcError as error:
            one.failure = error.code()
        except asyncio.CancelledError:
            if not one.is_finished:
                one.failure = grpc.StatusCode.CANCELLED
        self._changed.set()

    def _take(self, one: _Caller, event: pb.GenerateEvent) -> None:
        one.seqs.append(event.seq)
        kind = event.WhichOneof("event")
        if kind == "accepted":
            one.status = event.accepted.cache_status
        elif kind == "delta":
            one.texts.append(event.delta.text)
        elif kind == "finished":
            one.is_finished = True
        self._changed.set()

    def _leading(self) -> _Caller | None:
        return next((one for one in self._callers if one.status == common_pb2.CACHE_STATUS_LEAD), None)

    async def _until(self, holds) -> None:  # type: ignore[no-untyped-def]
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()
