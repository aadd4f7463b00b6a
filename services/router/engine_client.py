"""The inference instances, over gRPC."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from google.protobuf.duration_pb2 import Duration

from mesh.common.v1 import common_pb2
from mesh.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from mesh.router.v1 import router_service_pb2
from meshkit.calls import Calls
from meshkit.channels import ChannelPool
from meshkit.limits import TTFT_SLO
from meshkit.registry.base import Instance
from services.router.events import FinishReason
from services.router.ports import Compressed, EngineEvent, EngineFinished, EngineStarted, PromptBlocks
from services.router.question import Question
from services.router.telling import FINISH_REASON_OF_CODE, delta_piece, duration, seconds, usage_of

LEAST_WISH_S = 0.001


class EngineClient:
    """Starts attempts on instances."""

    def __init__(self, *, channels: ChannelPool, calls: Calls) -> None:
        self._channels = channels
        self._calls = calls

    @contextlib.asynccontextmanager
    async def generate(
        self,
        instance: Instance,
        question: Question,
        compressed: Compressed | None,
        request_id: str,
        timeout_s: float,
        *,
        wants_blocks: bool = False,
    ) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        request = cast(router_service_pb2.GenerateRequest, question.payload)
        prompt = cast(common_pb2.Prompt, compressed.payload) if compressed else request.prompt
        message = inference_service_pb2.GenerateRequest(
            request_id=request_id,
            prompt=prompt,
            sampling=request.sampling,
            stopping=request.stopping,
            output=request.output,
            priority=question.priority,
            model=instance.metadata.get("model", ""),
            ttft_slo=_first_token_wish(question, question.timeout_s - timeout_s),
            wants_block_hashes=wants_blocks,
        )
        async with self._calls.stream(
            self.stub(instance).Generate, message, timeout_s=timeout_s, peer=instance.id
        ) as replies:
            yield _events(replies)

    async def count_tokens(self, instance: Instance, prompt: common_pb2.Prompt, timeout_s: float) -> int:
        """Tokens of a prompt in the instance's own vocabulary."""
        message = inference_service_pb2.TokenizeRequest(prompt=prompt, count_only=True)
        reply = await self._calls.unary(self.stub(instance).Tokenize, message, timeout_s=timeout_s, peer=instance.id)
        return int(reply.token_count)

    def stub(self, instance: Instance) -> Any:
        """The instance's stub."""
        return self._channels.stub(inference_service_pb2_grpc.InferenceServiceStub, instance.address)


def _first_token_wish(question: Question, spent_s: float) -> Duration | None:
    """What is left of it; one that has passed already is as urgent as can be."""
    wish_s = question.objectives.ttft_s
    if wish_s is None:
        return None
    return duration(min(max(wish_s - spent_s, LEAST_WISH_S), TTFT_SLO.high))


def _started(started: inference_service_pb2.Started) -> EngineStarted:
    blocks = PromptBlocks(
        hashes=tuple(started.block_hashes), block_tokens=started.block_tokens, prompt_tokens=started.prompt_tokens
    )
    return EngineStarted(
        prompt_tokens=started.prompt_tokens, revision=started.revision, blocks=blocks if blocks.hashes else None
    )


async def _events(replies: AsyncIterator[inference_service_pb2.GenerateResponse]) -> AsyncIterator[EngineEvent]:
    async for reply in replies:
        kind = reply.WhichOneof("event")
        if kind == "delta":
            yield delta_piece(reply.delta)
        elif kind == "started":
            yield _started(reply.started)
        elif kind == "finished":
            timings = reply.finished.timings
            yield EngineFinished(
                finish_reason=FINISH_REASON_OF_CODE.get(reply.finished.finish_reason, FinishReason.ERROR),
                usage=usage_of(reply.finished.usage),
                queue_s=seconds(timings.engine_queue),
                prefill_s=seconds(timings.prefill),
                decode_s=seconds(timings.decode),
            )
