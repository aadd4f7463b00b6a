"""Calls from service to service: what is carried on, and what ends when somebody goes away."""

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any

import grpc
import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mesh.cache.v1 import cache_service_pb2 as cache
from mesh.cache.v1 import cache_service_pb2_grpc as cache_grpc
from meshkit import errors
from meshkit.calls import MARGIN_S, Calls
from meshkit.channels import ChannelPool
from meshkit.incoming import current_call
from meshkit.settings import IdentitySettings
from meshkit.telemetry.tracing import current_trace_id
from tests.support.probe_service import PATIENCE_S, Probe, asked_for, echo, loopback, probe_stub, running_probe

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
FORWARDED = (("x-mesh-tenant", "acme"), ("x-mesh-principal", "bot"))
PROMPTLY_S = 0.5
WIRE_ROUNDING_S = 0.02
"""gRPC sends a time-out as a few digits with a unit, rounded up: 1 s may arrive as 1.01 s."""


@contextlib.asynccontextmanager
async def chain(far: Probe, *, far_settings=None, timeout_s=PATIENCE_S):
    """A stub of a service that passes each look-up on to `far`, in the way that every service does."""
    async with running_probe(far, far_settings) as far_address, grpc.aio.insecure_channel(far_address) as channel:
        far_stub = cache_grpc.CacheServiceStub(channel)

        async def forward(request):
            return await Calls().unary(far_stub.Lookup, request, timeout_s=timeout_s, peer="far")

        async with probe_stub(Probe(lookup=forward)) as stub:
            yield stub


class Seen:
    """What the last service of a chain knows of its call."""

    async def __call__(self, request):
        self.call = current_call()
        self.remaining_s: Any = self.call.remaining_s()
        self.trace_id = current_trace_id()
        return await echo(request)


async def test_the_trace_is_carried_from_hop_to_hop():
    seen = Seen()
    async with chain(Probe(lookup=seen)) as stub:
        await stub.Lookup(asked_for("x"), timeout=5, metadata=(("traceparent", TRACEPARENT),))
    assert seen.trace_id == seen.call.trace_id == TRACE_ID


async def test_a_call_without_a_trace_begins_one():
    seen = Seen()
    async with probe_stub(Probe(lookup=seen)) as stub:
        await stub.Lookup(asked_for("x"), timeout=5)
        first = seen.trace_id
        await stub.Lookup(asked_for("x"), timeout=5)
    assert int(first, 16)
    assert first != seen.trace_id


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-xyz-1-1"])
async def test_a_malformed_trace_header_begins_a_new_trace(header):
    seen = Seen()
    async with probe_stub(Probe(lookup=seen)) as stub:
        await stub.Lookup(asked_for("x"), timeout=5, metadata=(("traceparent", header),))
    assert int(seen.trace_id, 16)


async def test_the_deadline_shrinks_by_the_margin():
    seen = Seen()
    async with chain(Probe(lookup=seen)) as stub:
        await stub.Lookup(asked_for("x"), timeout=2)
    assert 1 < seen.remaining_s <= 2 - MARGIN_S


async def test_the_cap_bounds_a_longer_deadline():
    seen = Seen()
    async with chain(Probe(lookup=seen), timeout_s=1) as stub:
        await stub.Lookup(asked_for("x"), timeout=60)
    assert seen.remaining_s <= 1 + WIRE_ROUNDING_S


async def test_no_deadline_stays_none():
    seen = Seen()
    async with probe_stub(Probe(lookup=seen)) as stub:
        await stub.Lookup(asked_for("x"))
    assert seen.remaining_s is None


@pytest.mark.parametrize("timeout_s", [0, -1])
async def test_a_call_without_time_left_is_not_sent(timeout_s):
    seen = Seen()
    async with probe_stub(Probe(lookup=seen)) as stub:
        with pytest.raises(errors.DeadlineExceeded):
            await Calls().unary(stub.Lookup, asked_for("x"), timeout_s=timeout_s)
    assert not hasattr(seen, "call")


async def test_a_deadline_of_less_than_the_margin_is_not_passed_on():
    async with chain(Probe(lookup=Seen())) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Lookup(asked_for("x"), timeout=MARGIN_S / 2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_the_tenant_is_believed_where_settings_say_so():
    seen = Seen()
    settings = replace(loopback(), identity=IdentitySettings(accept_forwarded=True))
    async with probe_stub(Probe(lookup=seen), settings) as stub:
        await stub.Lookup(asked_for("x"), metadata=FORWARDED)
    assert (seen.call.tenant, seen.call.principal) == ("acme", "bot")


async def test_the_tenant_is_forwarded_by_calls():
    seen = Seen()
    believing = replace(loopback(), identity=IdentitySettings(accept_forwarded=True))
    async with (
        running_probe(Probe(lookup=seen), believing) as far_address,
        grpc.aio.insecure_channel(far_address) as ch,
    ):
        far = cache_grpc.CacheServiceStub(ch)

        async def forward(request):
            return await Calls().unary(far.Lookup, request, timeout_s=5)

        async with probe_stub(Probe(lookup=forward), believing) as stub:
            await stub.Lookup(asked_for("x"), metadata=FORWARDED)
    assert (seen.call.tenant, seen.call.principal) == ("acme", "bot")


@pytest.mark.parametrize("tenant", ["acme", ""])
async def test_a_claimed_tenant_is_ignored_at_the_door(tenant):
    seen = Seen()
    async with probe_stub(Probe(lookup=seen)) as stub:
        await stub.Lookup(asked_for("x"), metadata=(("x-mesh-tenant", tenant),))
    assert seen.call.tenant == "default"


async def test_a_missing_identity_is_refused_where_one_is_required_and_health_still_answers():
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    settings = replace(loopback(), identity=IdentitySettings(required=True, accept_forwarded=True))
    async with running_probe(Probe(), settings) as address, grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(errors.Unauthenticated):
            await Calls().unary(cache_grpc.CacheServiceStub(channel).Lookup, asked_for("x"), timeout_s=5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            stub = cache_grpc.CacheServiceStub(channel)
            await stub.Lookup(asked_for("x"), timeout=5, metadata=FORWARDED)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert health.status == health_pb2.HealthCheckResponse.SERVING


class Endless:
    """Handlers that only end when they are ended, and say so."""

    def __init__(self):
        self.has_begun = asyncio.Event()
        self.has_ended = asyncio.Event()

    async def lookup(self, request):
        if request.key.model != "wait":
            return await echo(request)
        try:
            self.has_begun.set()
            await asyncio.Event().wait()
        finally:
            self.has_ended.set()

    async def silent(self, request):
        try:
            self.has_begun.set()
            await asyncio.Event().wait()
            yield cache.FollowResponse()
        finally:
            self.has_ended.set()

    async def chatty(self, request):
        try:
            while True:
                self.has_begun.set()
                yield cache.FollowResponse()
                await asyncio.sleep(0)
        finally:
            self.has_ended.set()

    async def flood(self, request):
        """More than flow control lets through: the handler is stuck in the middle of a write."""
        big = cache.FollowResponse(finished=cache.StoredAnswer(model="x" * 1_000_000))
        try:
            for number in range(1000):
                if number == 20:
                    self.has_begun.set()
                yield big
        finally:
            self.has_ended.set()

    async def begun(self):
        await asyncio.wait_for(self.has_begun.wait(), PATIENCE_S)

    async def ended(self):
        await asyncio.wait_for(self.has_ended.wait(), PROMPTLY_S)


async def test_a_cancelled_unary_call_ends_its_handler():
    endless = Endless()
    async with probe_stub(Probe(lookup=endless.lookup)) as stub:
        call = stub.Lookup(asked_for("wait"))
        await endless.begun()
        call.cancel()
        await endless.ended()
        assert (await stub.Lookup(asked_for("alive"))).digest == b"alive"


@pytest.mark.parametrize("kind", ["silent", "chatty"])
async def test_a_cancelled_stream_ends_its_handler(kind):
    endless = Endless()
    async with probe_stub(Probe(follow=getattr(endless, kind))) as stub:
        call = stub.Follow(cache.FollowRequest())
        await endless.begun()
        call.cancel()
        await endless.ended()
        assert (await stub.Lookup(asked_for("alive"))).digest == b"alive"


async def test_leaving_the_block_of_a_stream_ends_its_handler():
    endless = Endless()
    async with probe_stub(Probe(follow=endless.chatty)) as stub:
        async with Calls().stream(stub.Follow, cache.FollowRequest()) as messages:
            async for _ in messages:
                break
        await endless.ended()


async def test_a_stream_whose_reader_stopped_reading_ends_when_it_is_cancelled():
    endless = Endless()
    async with probe_stub(Probe(follow=endless.flood)) as stub:
        call = stub.Follow(cache.FollowRequest())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(endless.has_begun.wait(), 0.2)
        call.cancel()
        await endless.ended()


@pytest.mark.parametrize("kind", ["lookup", "silent"])
async def test_a_passed_deadline_ends_the_handler(kind):
    endless = Endless()
    async with probe_stub(Probe(lookup=endless.lookup, follow=endless.silent)) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            if kind == "lookup":
                await stub.Lookup(asked_for("wait"), timeout=0.1)
            else:
                await stub.Follow(cache.FollowRequest(), timeout=0.1).read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await endless.ended()


async def test_a_cancelled_caller_cancels_the_whole_chain():
    endless = Endless()
    async with chain(Probe(lookup=endless.lookup)) as stub:
        call = stub.Lookup(asked_for("wait"))
        await endless.begun()
        call.cancel()
        await endless.ended()


async def test_an_error_raised_while_a_cancelled_handler_cleans_up_harms_nobody(caplog):
    begun = asyncio.Event()

    async def follow(request):
        try:
            begun.set()
            await asyncio.Event().wait()
            yield cache.FollowResponse()
        finally:
            raise errors.BackendDown("too late for anyone")

    async with probe_stub(Probe(follow=follow)) as stub:
        call = stub.Follow(cache.FollowRequest())
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        call.cancel()
        assert (await stub.Lookup(asked_for("alive"))).digest == b"alive"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_an_absent_peer_is_named_and_quickly_known():
    async with ChannelPool().get("127.0.0.1:1") as channel:
        begun = time.monotonic()
        with pytest.raises(errors.BackendDown, match="the cache can't be reached"):
            stub = cache_grpc.CacheServiceStub(channel)
            await Calls().unary(stub.Lookup, asked_for("x"), timeout_s=5, peer="the cache")
        assert time.monotonic() - begun < 1


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_call_on_a_channel_that_is_closed_under_it_is_the_peers_failure_not_the_callers(kind):
    endless = Endless()
    pool = ChannelPool()

    async def one(stub):
        if kind == "unary":
            return await Calls().unary(stub.Lookup, asked_for("wait"), timeout_s=5)
        async with Calls().stream(stub.Follow, cache.FollowRequest()) as messages:
            return [message async for message in messages]

    async with running_probe(Probe(lookup=endless.lookup, follow=endless.silent)) as address:
        going = asyncio.create_task(one(cache_grpc.CacheServiceStub(pool.get(address))))
        await endless.begun()
        await pool.close()
        with pytest.raises(errors.BackendDown):
            await asyncio.wait_for(going, PATIENCE_S)


async def test_outside_of_a_served_call_no_identity_is_sent():
    seen = Seen()
    believing = replace(loopback(), identity=IdentitySettings(accept_forwarded=True))
    async with probe_stub(Probe(lookup=seen), believing) as stub:
        await Calls().unary(stub.Lookup, asked_for("x"), timeout_s=5)
    assert seen.call.tenant == "default"


async def test_the_trace_of_the_current_span_is_sent_without_a_tracer():
    seen = Seen()
    span = NonRecordingSpan(SpanContext(int(TRACE_ID, 16), 7, is_remote=False, trace_flags=TraceFlags(1)))
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    async with probe_stub(Probe(lookup=seen)) as stub:
        await stub.Lookup(asked_for("x"), metadata=tuple(carrier.items()))
    assert seen.trace_id == TRACE_ID
