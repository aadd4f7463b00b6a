"""The cache service, over gRPC."""

from __future__ import annotations

from typing import Any, cast

from mesh.cache.v1 import cache_service_pb2, cache_service_pb2_grpc
from mesh.router.v1 import router_service_pb2
from meshkit.calls import Calls
from meshkit.channels import ChannelPool
from meshkit.errors import BackendDown, DeadlineExceeded
from meshkit.picker import Picker
from meshkit.registry.base import Instance, InstanceSet
from services.router.catalogue import Model
from services.router.events import Answer
from services.router.optional_peer import pick_rested
from services.router.ports import Found
from services.router.question import Question
from services.router.telling import (
    FINISH_REASON,
    FINISH_REASON_OF_CODE,
    delta_message,
    delta_piece,
    duration,
    seconds,
    usage_message,
    usage_of,
)

_INSTANCE_FAULTS = (BackendDown, DeadlineExceeded)


class CacheClient:
    """Asks one instance, in turn; a look-up is never repeated, since generating is the fall-back."""

    def __init__(
        self,
        *,
        picker: Picker,
        channels: ChannelPool,
        calls: Calls,
        lookup_timeout_s: float,
        commit_timeout_s: float,
        compressor: InstanceSet,
    ) -> None:
        self._picker = picker
        self._channels = channels
        self._calls = calls
        self._lookup_timeout_s = lookup_timeout_s
        self._commit_timeout_s = commit_timeout_s
        self._compressor = compressor

    async def look_up(self, question: Question, model: Model) -> Found:
        request = cast(router_service_pb2.GenerateRequest, question.payload)
        message = cache_service_pb2.LookupRequest(
            key=self._key(request, question, model),
            mode=request.cache.mode,
            max_age=request.cache.max_age if request.cache.HasField("max_age") else None,
        )
        reply = await self._call("Lookup", message, self._lookup_timeout_s)
        # A finish reason that this version does not know makes the entry unreadable here: a miss.
        if reply.WhichOneof("result") == "hit" and reply.hit.answer.finish_reason in FINISH_REASON_OF_CODE:
            return Found(digest=reply.digest, answer=_answer_of(reply.hit.answer))
        return Found(digest=reply.digest)

    async def commit(self, digest: bytes, answer: Answer, ttl_s: float | None) -> None:
        message = cache_service_pb2.CommitRequest(digest=digest, answer=_stored(answer), ttl=duration(ttl_s))
        await self._call("Commit", message, self._commit_timeout_s)

    async def _call(self, method: str, message: Any, timeout_s: float) -> Any:
        instance = pick_rested(self._picker)
        try:
            reply = await self._calls.unary(
                getattr(self._stub(instance), method), message, timeout_s=timeout_s, peer=instance.id
            )
        except _INSTANCE_FAULTS:
            self._picker.failed(instance)
            raise
        self._picker.succeeded(instance)
        return reply

    def _stub(self, instance: Instance) -> Any:
        return self._channels.stub(cache_service_pb2_grpc.CacheServiceStub, instance.address)

    def _key(
        self, request: router_service_pb2.GenerateRequest, question: Question, model: Model
    ) -> cache_service_pb2.CacheKey:
        version = f"{self._compressor_version()}:{question.compression_mode}" if question.is_compressible else ""
        return cache_service_pb2.CacheKey(
            prompt=request.prompt,
            model=model.name,
            revision=",".join(model.revisions),
            template_digest=model.template_digest,
            sampling=request.sampling,
            stopping=request.stopping,
            output=request.output,
            constraint=request.constraint if request.HasField("constraint") else None,
            scope=request.cache.scope,
            session_id=request.session_id,
            compressor_version=version,
        )

    def _compressor_version(self) -> str:
        """What the registered compressors say; while a rollout mixes versions, answers are kept apart from both."""
        return ",".join(sorted({i.metadata.get("compressor_version", "") for i in self._compressor.current}))


def _answer_of(stored: cache_service_pb2.StoredAnswer) -> Answer:
    return Answer(
        pieces=tuple((seconds(event.offset), delta_piece(event.delta)) for event in stored.events),
        finish_reason=FINISH_REASON_OF_CODE[stored.finish_reason],
        usage=usage_of(stored.usage),
        cost_micro_usd=stored.cost_micro_usd,
        model=stored.model,
        revision=stored.revision,
        tier=stored.tier,
    )


def _stored(answer: Answer) -> cache_service_pb2.StoredAnswer:
    return cache_service_pb2.StoredAnswer(
        events=[
            cache_service_pb2.StoredEvent(offset=duration(offset_s), delta=delta_message(piece))
            for offset_s, piece in answer.pieces
        ],
        finish_reason=FINISH_REASON[answer.finish_reason],
        usage=usage_message(answer.usage),
        cost_micro_usd=answer.cost_micro_usd,
        model=answer.model,
        revision=answer.revision,
        tier=answer.tier,
    )
