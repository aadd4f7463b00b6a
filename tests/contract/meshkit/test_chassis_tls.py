"""With TLS the caller's certificate is its identity, and a forwarded tenant is believed only as the settings say."""

import contextlib

import grpc
import pytest

from mesh.cache.v1 import cache_service_pb2_grpc as cache_grpc
from meshkit.channels import ChannelPool
from meshkit.chassis import channel_credentials
from meshkit.incoming import current_call
from meshkit.settings import IdentitySettings, ServerSettings, ServiceSettings
from tests.support.certificates import Authority
from tests.support.probe_service import Probe, asked_for, echo, running_probe

ROUTER = "spiffe://mesh/service/router"
FORWARDED = (("x-mesh-tenant", "acme"), ("x-mesh-principal", "bot"))


@pytest.fixture(scope="module")
def authority():
    return Authority()


class Seen:
    async def __call__(self, request):
        self.call = current_call()
        return await echo(request)


@pytest.fixture
def served(authority, tmp_path):
    @contextlib.asynccontextmanager
    async def serve(identity: IdentitySettings):
        certificate, key = authority.issue("server").write(tmp_path, "server")
        ca = tmp_path / "ca.crt"
        ca.write_bytes(authority.certificate)
        server = ServerSettings(tls_certificate=certificate, tls_key=key, tls_client_ca=ca)
        seen = Seen()
        settings = ServiceSettings(server=server, identity=identity)
        async with running_probe(Probe(lookup=seen), settings) as address:
            yield address, seen, settings

    return serve


@contextlib.asynccontextmanager
async def caller(authority, address, common_name, spiffe_id=""):
    pair = authority.issue(common_name, spiffe_id)
    credentials = grpc.ssl_channel_credentials(authority.certificate, pair.key, pair.certificate)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        yield cache_grpc.CacheServiceStub(channel)


# common name, SPIFFE id, tenant, principal
IDENTITIES = [
    ("billing", "", "billing", "billing"),
    ("billing", "spiffe://corp/tenant/acme/app/bot", "acme", "spiffe://corp/tenant/acme/app/bot"),
    ("", "spiffe://corp/tenant/acme", "acme", "spiffe://corp/tenant/acme"),
    ("", "spiffe://corp/app/bot", "spiffe://corp/app/bot", "spiffe://corp/app/bot"),
    ("", "spiffe://tenant/x", "spiffe://tenant/x", "spiffe://tenant/x"),
]


@pytest.mark.parametrize(("common_name", "spiffe_id", "tenant", "principal"), IDENTITIES)
async def test_tenant_and_principal_come_from_the_certificate(
    served, authority, common_name, spiffe_id, tenant, principal
):
    async with (
        served(IdentitySettings(required=True)) as (address, seen, _),
        caller(authority, address, common_name, spiffe_id) as stub,
    ):
        await stub.Lookup(asked_for("x"), timeout=5, metadata=FORWARDED)
    assert (seen.call.tenant, seen.call.principal) == (tenant, principal)


# accept_forwarded, trusted_peers, caller, tenant that is believed
FORWARDING = [
    (False, (), ROUTER, ROUTER),
    (True, (), ROUTER, ROUTER),
    (True, (ROUTER,), ROUTER, "acme"),
    (True, (ROUTER,), "spiffe://mesh/service/other", "spiffe://mesh/service/other"),
]


@pytest.mark.parametrize(("accepts", "trusted", "who", "tenant"), FORWARDING)
async def test_a_forwarded_tenant_is_believed_only_from_whom_the_settings_trust(
    served, authority, accepts, trusted, who, tenant
):
    identity = IdentitySettings(required=True, accept_forwarded=accepts, trusted_peers=trusted)
    async with served(identity) as (address, seen, _), caller(authority, address, "", who) as stub:
        await stub.Lookup(asked_for("x"), timeout=5, metadata=FORWARDED)
    assert seen.call.tenant == tenant


async def test_behind_tls_without_client_certificates_nobodys_forwarded_tenant_is_believed(authority, tmp_path):
    certificate, key = authority.issue("server").write(tmp_path, "server")
    server = ServerSettings(tls_certificate=certificate, tls_key=key)
    seen = Seen()
    settings = ServiceSettings(server=server, identity=IdentitySettings(accept_forwarded=True))
    async with (
        running_probe(Probe(lookup=seen), settings) as address,
        caller(authority, address, "", ROUTER) as stub,
    ):
        await stub.Lookup(asked_for("x"), timeout=5, metadata=FORWARDED)
    assert seen.call.tenant == "default"


async def test_a_caller_without_a_certificate_does_not_get_in(served, authority):
    async with served(IdentitySettings(required=True)) as (address, _, _):
        credentials = grpc.ssl_channel_credentials(authority.certificate)
        async with grpc.aio.secure_channel(address, credentials) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await cache_grpc.CacheServiceStub(channel).Lookup(asked_for("x"), timeout=2)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_service_calls_its_peers_with_the_certificate_that_it_serves_with(served):
    async with served(IdentitySettings(required=True)) as (address, seen, settings):
        pool = ChannelPool(channel_credentials(settings.server))
        await cache_grpc.CacheServiceStub(pool.get(address)).Lookup(asked_for("x"), timeout=5)
        await pool.close()
    assert seen.call.principal == "server"
