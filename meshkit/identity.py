"""Who calls. The tenant comes from the verified certificate, or from a peer service that may forward it.

Certificate name: a SPIFFE id `spiffe://DOMAIN/tenant/TENANT/...` where there is one, else the common name, which then
is the tenant too. Without TLS every caller is tenant `default`, or, where `accept_forwarded` is set, the tenant that it
forwards. With TLS a forwarded tenant is believed only from the certificate names in `trusted_peers`: from nobody where
that is empty, and never from a caller without a certificate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshkit.errors import Unauthenticated
from meshkit.incoming import DEFAULT_TENANT
from meshkit.settings import IdentitySettings

TENANT_KEY = "x-mesh-tenant"
PRINCIPAL_KEY = "x-mesh-principal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A caller: whose budget, and which program."""

    tenant: str
    principal: str


def identify(
    settings: IdentitySettings, peer: Mapping[str, Iterable[bytes]], metadata: Mapping[str, str | bytes]
) -> Identity:
    """The caller's identity from gRPC's auth context and metadata.

    Unauthenticated where one is required and missing.
    """
    name = _certificate_name(peer)
    if settings.accept_forwarded and metadata.get(TENANT_KEY) and _may_forward(settings, peer, name):
        return Identity(tenant=str(metadata[TENANT_KEY]), principal=str(metadata.get(PRINCIPAL_KEY, "")))
    if name:
        return Identity(tenant=_tenant_of(name), principal=name)
    if settings.required:
        raise Unauthenticated(
            "identity: this service requires a client certificate; connect with TLS and a certificate of the mesh's CA"
        )
    return Identity(tenant=DEFAULT_TENANT, principal="")


def _may_forward(settings: IdentitySettings, peer: Mapping[str, Iterable[bytes]], name: str) -> bool:
    if name or b"ssl" in peer.get("transport_security_type", ()):
        return name in settings.trusted_peers
    return not settings.required


def _certificate_name(peer: Mapping[str, Iterable[bytes]]) -> str:
    for alternative in peer.get("x509_subject_alternative_name", ()):
        if alternative.startswith(b"spiffe://"):
            return alternative.decode("ascii", "replace")
    return next((name.decode("utf-8", "replace") for name in peer.get("x509_common_name", ())), "")


def _tenant_of(name: str) -> str:
    parts = name.split("/")
    if name.startswith("spiffe://") and "tenant" in parts[3:-1]:
        return parts[parts.index("tenant", 3) + 1]
    return name
