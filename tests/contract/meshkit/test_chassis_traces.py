"""The spans that the chassis makes: one tree a request, with the outcome on each."""

import contextlib

import grpc
import pytest

from mesh.cache.v1 import cache_service_pb2 as cache
from mesh.cache.v1 import cache_service_pb2_grpc as cache_grpc
from meshkit import errors
from meshkit.settings import ServiceSettings, TelemetrySettings
from meshkit.testing import running_server
from tests.support.otlp_receiver import otlp_receiver
from tests.support.probe_service import FOLLOW, LOOKUP, Probe, asked_for, echo, three

ERROR = 2


@contextlib.asynccontextmanager
async def traced_pair(receiver, lookup=echo, follow=three):
    """A stub of a service that passes everything on to another; both send their spans to the receiver."""
    settings = ServiceSettings(telemetry=TelemetrySettings(otlp_endpoint=receiver.address))

    def build_near(settings, chassis):
        far = cache_grpc.CacheServiceStub(chassis.channels.get(far_address))

        async def pass_on(request):
            return await chassis.calls.unary(far.Lookup, request, timeout_s=5)

        async def relay(request):
            async with chassis.calls.stream(far.Follow, request) as messages:
                async for message in messages:
                    yield message

        return Probe(lookup=pass_on, follow=relay)

    async with (
        running_server(settings, lambda settings, chassis: Probe(lookup=lookup, follow=follow), Probe) as far_address,
        running_server(settings, build_near, Probe) as near_address,
        grpc.aio.insecure_channel(near_address) as channel,
    ):
        yield cache_grpc.CacheServiceStub(channel)


def assert_one_tree(spans, depth):
    assert len({span.trace_id for span in spans}) == 1
    assert len(spans) == depth
    ids = {span.span_id for span in spans}
    orphans = [span for span in spans if span.parent_span_id and span.parent_span_id not in ids]
    roots = [span for span in spans if not span.parent_span_id]
    assert (len(roots), orphans) == (1, [])


@pytest.mark.parametrize("method", [LOOKUP, FOLLOW])
async def test_two_hops_make_one_tree_of_three_spans(method):
    with otlp_receiver() as receiver:
        async with traced_pair(receiver) as stub:
            if method == LOOKUP:
                await stub.Lookup(asked_for("x"), timeout=5)
            else:
                assert len([m async for m in stub.Follow(cache.FollowRequest(), timeout=5)]) == 3
        assert_one_tree(receiver.spans, 3)
        assert {span.name for span in receiver.spans} == {method[1:]}
        assert {span.status.code for span in receiver.spans} == {0}


async def test_an_error_is_on_every_span_that_it_passed():
    async def lookup(request):
        raise errors.BackendDown("engine is gone")

    with otlp_receiver() as receiver:
        async with traced_pair(receiver, lookup) as stub:
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Lookup(asked_for("x"), timeout=5)
        assert_one_tree(receiver.spans, 3)
        assert {span.status.code for span in receiver.spans} == {ERROR}


async def test_no_span_holds_what_was_asked():
    with otlp_receiver() as receiver:
        async with traced_pair(receiver) as stub:
            await stub.Lookup(asked_for("a secret prompt"), timeout=5)
        assert "a secret prompt" not in str(receiver.spans)
