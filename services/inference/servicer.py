"""Translates mesh.inference.v1 to one ModelHost and back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from mesh.inference.v1 import inference_service_pb2 as pb
from mesh.inference.v1.inference_service_pb2_grpc import InferenceServiceServicer
from meshkit.clock import Clock
from meshkit.coalescing import Piece
from meshkit.errors import InvalidRequest, NotBuilt
from meshkit.incoming import current_call
from meshkit.telemetry import logs, names, tracing
from services.inference.engine_port import LoadReading
from services.inference.generation import Ended, Started
from services.inference.model_host import ModelHost
from services.inference.protobuf import (
    read_prompt,
    read_request,
    write_ended,
    write_kv_event,
    write_load,
    write_piece,
    write_started,
)

DEFAULT_LOAD_INTERVAL_S = 0.2
LEAST_LOAD_INTERVAL_S = 0.02
LONGEST_LOAD_WAIT_S = 1.0
"""A drain, which the engine doesn't know of, is told within this."""
_log = logs.get_logger(__name__)


class InferenceServicer(InferenceServiceServicer):
    """The contract over one ModelHost."""

    def __init__(self, host: ModelHost, clock: Clock, engine_version: str) -> None:
        self._host = host
        self._clock = clock
        self._engine_version = engine_version

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        call = current_call()
        arrived_at = call.arrived_at
        tracing.set_attributes({names.GEN_AI_OPERATION: "generate", names.GEN_AI_REQUEST_MODEL: self._host.name})
        events = self._host.generate(
            read_request(request), arrived_at, tenant=call.tenant, deadline_at=call.deadline_at
        )
        has_told_first_token = False
        try:
            async for event in events:
                if isinstance(event, Started):
                    yield write_started(event, model=self._host.name, revision=self._host.revision)
                elif isinstance(event, Piece):
                    if event.token_count and not has_told_first_token:
                        has_told_first_token = True
                        ttft_s = self._clock.now() - arrived_at
                        tracing.add_event(names.EVENT_FIRST_TOKEN, **{names.TTFT_S: ttft_s})
                    yield write_piece(event)
                else:
                    self._tell_end(event)
                    yield write_ended(event)
        finally:
            await events.aclose()

    async def Tokenize(self, request: pb.TokenizeRequest, context: Any) -> pb.TokenizeResponse:
        ids = await self._host.tokenize(read_prompt(request.prompt))
        return pb.TokenizeResponse(ids=[] if request.count_only else ids, token_count=len(ids))

    async def Detokenize(self, request: pb.DetokenizeRequest, context: Any) -> pb.DetokenizeResponse:
        skips = request.skip_special_tokens
        return pb.DetokenizeResponse(text=await self._host.detokenize(request.ids, skips_special_tokens=skips))

    async def Abort(self, request: pb.AbortRequest, context: Any) -> pb.AbortResponse:
        if not request.request_id:
            raise InvalidRequest("is empty", field="request_id", limit="the id of a request")
        return pb.AbortResponse(aborted=self._host.running.abort(request.request_id))

    async def GetModelInfo(self, request: pb.GetModelInfoRequest, context: Any) -> pb.GetModelInfoResponse:
        limits, text, facts = self._host.limits, self._host.text, self._host.engine.facts
        assert facts is not None  # `limits` raised otherwise
        return pb.GetModelInfoResponse(
            model=self._host.name,
            revision=self._host.revision,
            architecture=facts.architecture,
            context_tokens=limits.context_tokens,
            vocabulary_size=facts.vocabulary_size,
            dtype=_DTYPE_NAMES.get(facts.dtype, facts.dtype),
            tensor_parallel_size=facts.tensor_parallel_size,
            template_digest=text.template_digest,
            parameter_count=facts.parameter_count,
            eos_token_ids=text.eos_token_ids,
            engine_version=self._engine_version,
            quantisation_loss=facts.quantisation_loss,
            kv_total_tokens=facts.kv_total_tokens,
        )

    async def GetLoad(self, request: pb.GetLoadRequest, context: Any) -> pb.GetLoadResponse:
        return pb.GetLoadResponse(load=self._load())

    async def WatchLoad(self, request: pb.WatchLoadRequest, context: Any) -> AsyncIterator[pb.WatchLoadResponse]:
        interval_s = DEFAULT_LOAD_INTERVAL_S
        if request.HasField("min_interval"):
            interval_s = max(LEAST_LOAD_INTERVAL_S, request.min_interval.ToNanoseconds() / 1e9)
        seen: tuple[LoadReading, bool] | None = None
        while True:
            now = (self._host.engine.load(), self._host.running.is_draining)
            if now != seen:
                seen = now
                yield pb.WatchLoadResponse(load=self._load())
                await self._until_left_or(self._clock.sleep(interval_s))
            elif self._host.running.has_left:
                return
            else:
                await self._until_left_or(self._load_differs(seen[0]))

    async def Drain(self, request: pb.DrainRequest, context: Any) -> pb.DrainResponse:
        timeout_s = request.timeout.ToNanoseconds() / 1e9 if request.HasField("timeout") else None
        if timeout_s is not None and timeout_s < 0:
            raise InvalidRequest("is negative", field="timeout", limit="at least 0 s")
        return pb.DrainResponse(aborted_count=await self._host.running.drain(timeout_s))

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:
        raise NotBuilt("this version does not score given tokens; Generate with output.prompt_logprobs does")

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        raise NotBuilt("this version has no embedding models")

    async def SubscribeKvEvents(
        self, request: pb.SubscribeKvEventsRequest, context: Any
    ) -> AsyncIterator[pb.SubscribeKvEventsResponse]:
        engine = self._host.engine
        number = request.after_sequence if request.HasField("after_sequence") else None
        while not self._host.running.has_left:
            for event in engine.kv_events.after(number):
                number = event.number
                yield write_kv_event(event, engine.facts.block_tokens if engine.facts else 0)
            if not engine.kv_events.after(number):
                await self._until_left_or(engine.kv_events.changed())

    async def FlushCache(self, request: pb.FlushCacheRequest, context: Any) -> pb.FlushCacheResponse:
        return pb.FlushCacheResponse(block_count=await self._host.flush_cache(request.idempotency_key))

    async def PinPrefix(self, request: pb.PinPrefixRequest, context: Any) -> pb.PinPrefixResponse:
        prompt, tenant = read_prompt(request.prompt), current_call().tenant
        kept_count = await self._host.pin_prefix(prompt, tenant=tenant, is_pinned=not request.unpin)
        return pb.PinPrefixResponse(prefix_tokens=kept_count)

    async def LoadAdapter(self, request: pb.LoadAdapterRequest, context: Any) -> pb.LoadAdapterResponse:
        raise NotBuilt("this version has no LoRA adapters")

    async def UnloadAdapter(self, request: pb.UnloadAdapterRequest, context: Any) -> pb.UnloadAdapterResponse:
        raise NotBuilt("this version has no LoRA adapters")

    async def ListAdapters(self, request: pb.ListAdaptersRequest, context: Any) -> pb.ListAdaptersResponse:
        raise NotBuilt("this version has no LoRA adapters")

    async def StartProfile(self, request: pb.StartProfileRequest, context: Any) -> pb.StartProfileResponse:
        raise NotBuilt("this version has no engine profiler")

    async def StopProfile(self, request: pb.StopProfileRequest, context: Any) -> pb.StopProfileResponse:
        raise NotBuilt("this version has no engine profiler")

    async def _load_differs(self, seen: LoadReading) -> None:
        """Return when there is another load, or after LONGEST_LOAD_WAIT_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_LOAD_WAIT_S):
                while self._host.engine.load() == seen:
                    await self._host.engine.load_changed()

    async def _until_left_or(self, other: Coroutine[Any, Any, None]) -> None:
        """Wait for one of both. The last words of an instance that leaves hold nobody up."""
        waits = [asyncio.ensure_future(one) for one in (other, self._host.running.left())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _load(self) -> pb.Load:
        reading, is_draining = self._host.engine.load(), self._host.running.is_draining
        return write_load(reading, is_draining=is_draining, wall_s=self._clock.wall())

    def _tell_end(self, ended: Ended) -> None:
        tracing.set_attributes(
            {
                names.GEN_AI_RESPONSE_MODEL: self._host.name,
                names.REVISION: self._host.revision,
                names.GEN_AI_INPUT_TOKENS: ended.prompt_token_count,
                names.GEN_AI_OUTPUT_TOKENS: ended.completion_token_count,
                names.GEN_AI_FINISH_REASONS: (ended.finish_reason,),
                names.QUEUE_S: ended.queue_s,
                names.PREFILL_S: ended.prefill_s,
            }
        )
        _log.info(
            names.LOG_GENERATION_ENDED,
            finish_reason=ended.finish_reason,
            prompt_tokens=ended.prompt_token_count,
            completion_tokens=ended.completion_token_count,
            first_token_s=round(ended.first_token_s, 4),
            total_s=round(ended.total_s, 4),
        )


_DTYPE_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
