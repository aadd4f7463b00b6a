"""What every server shows beside its own methods: health that means it, reflection, channelz, metrics."""

import asyncio
import urllib.request
from dataclasses import replace

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mesh.cache.v1 import cache_service_pb2_grpc as cache_grpc
from meshkit import errors
from meshkit.calls import Calls
from meshkit.chassis import Chassis
from meshkit.listening import CannotListen, PortTaken
from meshkit.server import Server
from meshkit.settings import ServerSettings, ServiceSettings
from meshkit.testing import FakeRegistry, test_chassis
from tests.support.free_port import free_port
from tests.support.probe_service import PATIENCE_S, Probe, asked_for, loopback, running_probe

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


async def health_of(channel: grpc.aio.Channel, service: str):
    stub = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status


async def test_while_loading_health_says_not_serving_calls_get_not_ready_and_the_registry_knows_nothing():
    loads, may_finish = asyncio.Event(), asyncio.Event()

    async def load():
        loads.set()
        await may_finish.wait()

    registry = FakeRegistry()
    settings = loopback()
    server = Server(settings, test_chassis(settings, Probe, registry=registry), Probe(on_start=load))
    starting = asyncio.create_task(server.start())
    await asyncio.wait_for(loads.wait(), PATIENCE_S)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert [await health_of(channel, name) for name in ("", Probe.grpc_name)] == [NOT_SERVING] * 2
        with pytest.raises(errors.NotReady):
            await Calls().unary(cache_grpc.CacheServiceStub(channel).Lookup, asked_for("x"), timeout_s=5)
        assert registry.watch("mesh-cache").current == ()
        may_finish.set()
        await starting
        assert [await health_of(channel, name) for name in ("", Probe.grpc_name)] == [SERVING] * 2
        await Calls().unary(cache_grpc.CacheServiceStub(channel).Lookup, asked_for("x"), timeout_s=5)
    (instance,) = registry.watch("mesh-cache").current
    assert instance.address == f"127.0.0.1:{server.port}"
    assert instance.metadata == {"version": "0+test", "colour": "green"}
    await server.close()


async def test_a_failed_start_is_raised_and_leaves_nothing_registered():
    async def load():
        raise errors.NotFound("no such model")

    registry = FakeRegistry()
    with pytest.raises(errors.NotFound):
        async with running_probe(Probe(on_start=load), registry=registry):
            pass
    assert registry.watch("mesh-cache").current == ()


async def test_a_service_that_fails_to_close_is_still_taken_down_wholly():
    class Stubborn(Probe):
        async def close(self):
            raise RuntimeError("will not")

    registry = FakeRegistry()
    with pytest.raises(RuntimeError, match="will not"):
        async with running_probe(Stubborn(), registry=registry) as address:
            pass
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(errors.BackendDown):
            await Calls().unary(cache_grpc.CacheServiceStub(channel).Lookup, asked_for("x"), timeout_s=5)


async def test_a_server_on_every_address_is_registered_under_one_that_others_can_reach():
    registry = FakeRegistry()
    settings = ServiceSettings(server=ServerSettings(host="0.0.0.0"))
    async with running_probe(Probe(), settings, registry):
        (instance,) = registry.watch("mesh-cache").current
        async with grpc.aio.insecure_channel(instance.address) as channel:
            assert await cache_grpc.CacheServiceStub(channel).Lookup(asked_for("x"), timeout=5)


async def test_the_state_of_health_can_be_watched():
    async with running_probe(Probe()) as address, grpc.aio.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=Probe.grpc_name))
        assert (await asyncio.wait_for(watch.read(), PATIENCE_S)).status == SERVING
        watch.cancel()


async def test_reflection_names_every_service():
    async with running_probe(Probe()) as address, grpc.aio.insecure_channel(address) as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        replies = [reply async for reply in stub.ServerReflectionInfo(iter([request]), timeout=5)]
    shown = {service.name for service in replies[0].list_services_response.service}
    assert shown == {
        Probe.grpc_name,
        "grpc.health.v1.Health",
        "grpc.channelz.v1.Channelz",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_channelz_shows_the_server():
    async with running_probe(Probe()) as address, grpc.aio.insecure_channel(address) as channel:
        stub = channelz_pb2_grpc.ChannelzStub(channel)
        reply = await stub.GetServers(channelz_pb2.GetServersRequest(start_server_id=0), timeout=5)
    assert len(reply.server) >= 1


@pytest.mark.parametrize("method", ["/mesh.cache.v1.CacheService/NoSuchMethod", "/no.such.Service/Method", "nonsense"])
async def test_an_unknown_method_is_unimplemented(method, probe_channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await probe_channel.unary_unary(method)(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def scrape(port: int, accept: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        return reply.read().decode()


async def test_metrics_show_calls_by_method_and_code_with_a_trace_as_exemplar():
    port = free_port()
    settings = ServiceSettings(server=ServerSettings(metrics_port=port))
    async with running_probe(Probe(), settings) as address, grpc.aio.insecure_channel(address) as channel:
        await cache_grpc.CacheServiceStub(channel).Lookup(asked_for("x"), timeout=5)
        plain = await asyncio.to_thread(scrape, port, "text/plain")
        rich = await asyncio.to_thread(scrape, port, OPEN_METRICS)
    counted = (
        'mesh_rpc_server_duration_seconds_count{code="OK",method="/mesh.cache.v1.CacheService/Lookup"} 1.0'.splitlines()
    )
    assert [line for line in plain.splitlines() if line in counted] == counted
    assert 'mesh_rpc_server_active{method="/mesh.cache.v1.CacheService/Lookup"} 0.0' in plain
    assert '# {trace_id="' in rich
    assert rich.rstrip().endswith("# EOF")


async def test_a_metrics_port_that_is_taken_is_named_with_its_variable():
    port = free_port()
    first, second = (ServiceSettings(server=ServerSettings(metrics_port=port)) for _ in range(2))
    async with running_probe(Probe(), first):
        with pytest.raises(PortTaken, match=rf"port {port} .*MESH_SERVER__METRICS_PORT"):
            async with running_probe(Probe(), second):
                pass


async def test_a_port_that_is_taken_is_named_with_its_variable():
    async with running_probe(Probe()) as address:
        port = int(address.rsplit(":", 1)[1])
        with pytest.raises(PortTaken, match=rf"port {port} on 127.0.0.1 is taken.*MESH_SERVER__PORT"):
            async with running_probe(Probe(), replace(loopback(), server=ServerSettings(port=port))):
                pass


async def test_an_address_of_another_machine_is_named():
    settings = ServiceSettings(server=ServerSettings(host="192.0.2.1", port=free_port()))
    with pytest.raises(CannotListen, match=r"can't listen on 192\.0\.2\.1 port"):
        async with running_probe(Probe(), settings):
            pass


async def test_services_that_share_a_fake_registry_withdraw_only_themselves():
    registry = FakeRegistry()

    async with running_probe(Probe(), registry=registry) as stays:
        async with running_probe(Probe(), registry=registry):
            assert len(registry.watch("mesh-cache").current) == 2
        assert [instance.address for instance in registry.watch("mesh-cache").current] == [stays]


def test_the_chassis_is_made_of_what_the_settings_name(tmp_path):
    from meshkit.chassis import build_chassis
    from meshkit.registry.file import FileRegistry
    from meshkit.settings import RegistrySettings

    async def build() -> Chassis:
        settings = ServiceSettings(registry=RegistrySettings(kind="file", file_path=tmp_path))
        return build_chassis(settings, service="mesh-cache", grpc_name=Probe.grpc_name, instance_id="one")

    chassis = asyncio.run(build())
    assert isinstance(chassis.registry, FileRegistry)
    assert chassis.version


async def test_a_service_that_lost_its_readiness_while_it_was_being_registered_is_not_called_serving():
    class Fragile(Probe):
        is_alive = True

        @property
        def is_ready(self):
            return self.is_alive

    class Slow(FakeRegistry):
        async def register(self, registration):
            probe.is_alive = False
            await chassis.health.set_serving(False)
            await super().register(registration)

    probe, settings = Fragile(), loopback()
    chassis = test_chassis(settings, Fragile)
    chassis = replace(chassis, registry=Slow())
    server = Server(settings, chassis, probe)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert await health_of(channel, Probe.grpc_name) == NOT_SERVING
    await server.close()


async def test_a_service_that_is_not_ready_after_its_start_is_registered_and_not_called_serving():
    class NeverReady(Probe):
        is_ready = False

    async with running_probe(NeverReady()) as address, grpc.aio.insecure_channel(address) as channel:
        assert await health_of(channel, Probe.grpc_name) == NOT_SERVING


async def test_what_is_registered_says_whether_it_serves():
    class Recording(FakeRegistry):
        async def register(self, registration):
            self.registration = registration

    settings, registry = loopback(), Recording()
    chassis = replace(test_chassis(settings, Probe), registry=registry)
    server = Server(settings, chassis, Probe())
    await server.start()
    assert registry.registration.is_serving()
    await chassis.health.set_serving(False)
    assert not registry.registration.is_serving()
    await server.close()


async def test_a_method_that_takes_a_stream_of_requests_is_refused_and_never_served_unidentified():
    served = []

    class Streaming(Probe):
        def add_to(self, server: grpc.aio.Server) -> None:
            async def collect(requests, context):
                served.append(context)
                return b""

            handlers = {"Collect": grpc.stream_unary_rpc_method_handler(collect)}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Streaming", handlers),))

    async with running_probe(Streaming()) as address, grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.stream_unary("/test.Streaming/Collect")(iter([b"one"]), timeout=PATIENCE_S)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED and not served
