"""The cache service, over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from mesh.cache.v1 import cache_service_pb2, cache_service_pb2_grpc
from mesh.router.v1 import router_service_pb2
from meshkit.calls import Calls
from meshkit.channels import ChannelPool
from meshkit.clock import Clock
from meshkit.coalescing import Piece
from meshkit.errors import BackendDown, DeadlineExceeded, MeshError
from meshkit.incoming import current_call
from meshkit.picker import Picker
from meshkit.registry.base import Instance, InstanceSet
from meshkit.together import Together
from services.router.catalogue import Model
from services.router.events import Answer, FinishReason
from services.router.optional_peer import pick_rested
from services.router.ports import FollowEvent, Found, Landed, Lease, Placement, PromptBlocks, Takeover
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

KNOWN_FOR_S = 0.5
"""A finished flight can be followed for longer than that."""
_LATE_S = 0.05
"""Longer than that after its time-out, an event loop that has nothing else to do has noticed it."""
_LOOK_UPS = 3
_INSTANCE_FAULTS = (BackendDown, DeadlineExceeded)


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownFlight:
    """An answer that is being made, as a look-up said."""

    found: Found
    until: float


class CacheClient:
    """Asks one instance, in turn; generating is the fall-back."""

    def __init__(
        self,
        *,
        picker: Picker,
        channels: ChannelPool,
        calls: Calls,
        lookup_timeout_s: float,
        commit_timeout_s: float,
        compressor: InstanceSet,
        clock: Clock,
    ) -> None:
        self._picker = picker
        self._channels = channels
        self._calls = calls
        self._lookup_timeout_s = lookup_timeout_s
        self._commit_timeout_s = commit_timeout_s
        self._compressor = compressor
        self._clock = clock
        self._looking: Together[tuple[str, str, bytes], Found] = Together()
        self._known_flights: dict[tuple[str, str, bytes], _KnownFlight] = {}

    async def look_up(
        self, question: Question, model: Model, *, regenerates: bool = False, lost: Lease | None = None
    ) -> Found:
        """Equal requests of one caller that come at once are looked up once; only one of them can get a lead.

        Who follows is known for a moment, so that a crowd does not ask a cache that the crowd itself keeps busy.
        """
        request = cast(router_service_pb2.GenerateRequest, question.payload)
        message = cache_service_pb2.LookupRequest(
            key=self._key(request, question, model),
            mode=request.cache.mode,
            max_age=request.cache.max_age if request.cache.HasField("max_age") else None,
            max_error_rate=request.cache.max_error_rate if request.cache.HasField("max_error_rate") else None,
            single_flight=question.stores_answer and request.sampling.n <= 1,
            regenerates_stale=regenerates and question.stores_answer and request.sampling.n <= 1,
            wants_prefix_hint=True,
        )
        call = current_call()
        key = (call.tenant, call.principal, message.SerializeToString(deterministic=True))
        flight = self._known_flights.get(key)
        if flight is not None and flight.until > self._clock.now() and flight.found.follow != lost:
            return flight.found
        while True:
            found, is_own = await self._looking.ask_once(key, lambda: self._look_up(message))
            if found.follow is not None and is_own:
                self._remember(key, found)
            if is_own:
                return found
            if found.lead is None:
                return dataclasses.replace(found, regenerate=None)

    def _remember(self, key: tuple[str, str, bytes], found: Found) -> None:
        now = self._clock.now()
        self._known_flights = {name: one for name, one in self._known_flights.items() if one.until > now}
        self._known_flights[key] = _KnownFlight(found=found, until=now + KNOWN_FOR_S)

    async def _look_up(self, message: cache_service_pb2.LookupRequest) -> Found:
        reply, instance = await self._first_reply(message)
        # A finish reason that this version does not know makes the entry unreadable here: a miss.
        if reply.WhichOneof("result") == "hit" and reply.hit.answer.finish_reason in FINISH_REASON_OF_CODE:
            return Found(
                digest=reply.digest,
                answer=_answer_of(reply.hit.answer),
                is_stale=reply.hit.stale,
                regenerate=_lease(reply, "regenerate", instance),
            )
        return Found(
            digest=reply.digest,
            lead=_lease(reply, "lead", instance),
            follow=_lease(reply, "follow", instance),
            placement=_placement(reply.prefix) if reply.HasField("prefix") else None,
        )

    async def commit(self, digest: bytes, answer: Answer, ttl_s: float | None, lease: Lease | None = None) -> None:
        message = cache_service_pb2.CommitRequest(
            digest=digest, lease_id=lease.id if lease else "", answer=_stored(answer), ttl=duration(ttl_s)
        )
        await self._ask(self._holder(lease), "Commit", message, self._commit_timeout_s)

    async def note_prefix(self, marks: bytes, blocks: PromptBlocks) -> None:
        """Each instance has an index of its own; one that does not take it gives shorter hints, no more."""
        message = cache_service_pb2.NotePrefixRequest(
            marks=marks,
            block_hashes=blocks.hashes,
            block_tokens=blocks.block_tokens,
            prompt_tokens=blocks.prompt_tokens,
        )
        rested = [instance for instance in self._picker.candidates() if not self._picker.is_resting(instance)]
        asking = (self._ask(instance, "NotePrefix", message, self._commit_timeout_s) for instance in rested)
        for outcome in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, MeshError):
                raise outcome

    async def renew(self, lease: Lease, first: int, pieces: Sequence[tuple[float, Piece]]) -> bool:
        message = cache_service_pb2.RenewRequest(
            lease_id=lease.id, first_event=first, events=[_stored_event(offset_s, piece) for offset_s, piece in pieces]
        )
        reply = await self._ask(self._holder(lease), "Renew", message, self._commit_timeout_s)
        return bool(reply.is_followed)

    async def abandon(self, lease: Lease) -> None:
        message = cache_service_pb2.AbandonRequest(lease_id=lease.id)
        await self._ask(self._holder(lease), "Abandon", message, self._commit_timeout_s)

    @contextlib.asynccontextmanager
    async def follow(self, lease: Lease, first: int) -> AsyncIterator[AsyncIterator[FollowEvent]]:
        instance = self._holder(lease)
        message = cache_service_pb2.FollowRequest(lease_id=lease.id, from_event=first)
        try:
            async with self._calls.stream(self._stub(instance).Follow, message, peer=instance.id) as replies:
                yield _followed(replies, instance.id)
        except BackendDown:
            self._picker.failed(instance)
            raise

    def _holder(self, lease: Lease | None) -> Instance:
        """Who gave the lease, if it is well; else any, since it may be shared."""
        known = self._picker.candidates(lambda instance: lease is not None and instance.id == lease.holder)
        rested = [instance for instance in known if not self._picker.is_resting(instance)]
        return rested[0] if rested else pick_rested(self._picker)

    async def _first_reply(self, message: cache_service_pb2.LookupRequest) -> tuple[Any, Instance]:
        """A look-up that met a dead instance, or whose reply this process was too busy to hear, is made again.

        Generating costs far more. An instance that does not answer in time is not made up for: the time is gone.
        """
        for attempts_left in reversed(range(_LOOK_UPS)):
            instance = pick_rested(self._picker)
            try:
                return await self._ask(instance, "Lookup", message, self._lookup_timeout_s), instance
            except DeadlineExceeded:
                if not attempts_left or self._picker.is_resting(instance):
                    raise
            except BackendDown:
                if not attempts_left:
                    raise
        raise AssertionError("unreachable")

    async def _ask(self, instance: Instance, method: str, message: Any, timeout_s: float) -> Any:
        began_at = self._clock.now()
        try:
            reply = await self._calls.unary(
                getattr(self._stub(instance), method), message, timeout_s=timeout_s, peer=instance.id
            )
        except _INSTANCE_FAULTS as error:
            # Time that ran out while this process was itself late says nothing about the cache.
            if isinstance(error, BackendDown) or self._clock.now() - began_at < timeout_s + _LATE_S:
                self._picker.failed(instance)
            raise
        self._picker.succeeded(instance)
        return reply

    def _stub(self, instance: Instance) -> Any:
        return self._channels.stub(cache_service_pb2_grpc.CacheServiceStub, instance.address)

    def _key(
        self, request: router_service_pb2.GenerateRequest, question: Question, model: Model
    ) -> cache_service_pb2.CacheKey:
        version = ""
        if question.is_compressible:
            how = (self._compressor_version(), question.compression_mode, question.compression_bounds)
            version = ":".join(how)
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


def _lease(reply: cache_service_pb2.LookupResponse, field: str, giver: Instance) -> Lease | None:
    return Lease(id=getattr(reply, field).lease_id, holder=giver.id) if reply.HasField(field) else None


def _placement(prefix: cache_service_pb2.PrefixHint) -> Placement:
    resident_tokens = {holder.instance: holder.resident_tokens for holder in prefix.holders}
    return Placement(marks=prefix.marks, resident_tokens=resident_tokens, is_noted=prefix.is_noted)


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
        events=[_stored_event(offset_s, piece) for offset_s, piece in answer.pieces],
        finish_reason=FINISH_REASON[answer.finish_reason],
        usage=usage_message(answer.usage),
        cost_micro_usd=answer.cost_micro_usd,
        model=answer.model,
        revision=answer.revision,
        tier=answer.tier,
    )


def _stored_event(offset_s: float, piece: Piece) -> cache_service_pb2.StoredEvent:
    return cache_service_pb2.StoredEvent(offset=duration(offset_s), delta=delta_message(piece))


async def _followed(
    replies: AsyncIterator[cache_service_pb2.FollowResponse], holder: str
) -> AsyncIterator[FollowEvent]:
    async for reply in replies:
        kind = reply.WhichOneof("event")
        if kind == "delta":
            yield delta_piece(reply.delta.delta)
        elif kind == "finished":
            yield Landed(
                finish_reason=FINISH_REASON_OF_CODE.get(reply.finished.finish_reason, FinishReason.ERROR),
                usage=usage_of(reply.finished.usage),
                cost_micro_usd=reply.finished.cost_micro_usd,
            )
        elif kind == "lead":
            yield Takeover(lease=Lease(id=reply.lead.lease_id, holder=holder))
