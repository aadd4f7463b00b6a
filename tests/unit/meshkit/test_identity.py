import pytest

from meshkit.errors import Unauthenticated
from meshkit.identity import Identity, identify
from meshkit.settings import IdentitySettings

SPIFFE = "x509_subject_alternative_name"
NAME = "x509_common_name"
FORWARDED = {"x-mesh-tenant": "acme", "x-mesh-principal": "bot"}
ACME = Identity(tenant="acme", principal="bot")
SVC = Identity(tenant="svc", principal="svc")
TLS = {"transport_security_type": [b"ssl"]}
INSECURE = {"transport_security_type": [b"insecure"]}
DEFAULT = Identity(tenant="default", principal="")

# settings, auth context, metadata, identity (None: refused)
TABLE = [
    ({}, {}, {}, DEFAULT),
    ({}, {}, FORWARDED, DEFAULT),
    ({"accept_forwarded": True}, {}, FORWARDED, ACME),
    ({"accept_forwarded": True}, {}, {"x-mesh-tenant": ""}, DEFAULT),
    ({"accept_forwarded": True}, {}, {"x-mesh-tenant": "acme"}, Identity(tenant="acme", principal="")),
    ({"required": True}, {}, {}, None),
    ({"required": True, "accept_forwarded": True}, {}, FORWARDED, None),
    ({"required": True}, {NAME: [b"svc"]}, FORWARDED, SVC),
    ({"required": True, "accept_forwarded": True}, {NAME: [b"svc"]}, FORWARDED, SVC),
    ({"accept_forwarded": True}, {NAME: [b"svc"]}, FORWARDED, SVC),
    ({"accept_forwarded": True}, TLS, FORWARDED, DEFAULT),
    ({"accept_forwarded": True, "trusted_peers": ("svc",)}, TLS, FORWARDED, DEFAULT),
    ({"accept_forwarded": True}, INSECURE, FORWARDED, ACME),
    ({"accept_forwarded": True, "trusted_peers": ("svc",)}, INSECURE, FORWARDED, ACME),
    ({"accept_forwarded": True, "trusted_peers": ("svc",)}, {NAME: [b"svc"]}, FORWARDED, ACME),
    (
        {"accept_forwarded": True, "trusted_peers": ("svc",)},
        {NAME: [b"other"]},
        FORWARDED,
        Identity(tenant="other", principal="other"),
    ),
    (
        {},
        {SPIFFE: [b"localhost", b"spiffe://corp/tenant/acme/app/bot"], NAME: [b"cn"]},
        {},
        Identity(tenant="acme", principal="spiffe://corp/tenant/acme/app/bot"),
    ),
    ({}, {SPIFFE: [b"localhost"], NAME: [b"cn"]}, {}, Identity(tenant="cn", principal="cn")),
    ({"required": True}, {SPIFFE: [b"localhost"]}, {}, None),
    ({"required": True}, {NAME: [b""]}, {}, None),
    (
        {},
        {SPIFFE: [b"spiffe://corp/tenant"]},
        {},
        Identity(tenant="spiffe://corp/tenant", principal="spiffe://corp/tenant"),
    ),
]


@pytest.mark.parametrize(("settings", "peer", "metadata", "expected"), TABLE)
def test_who_calls(settings, peer, metadata, expected):
    if expected is None:
        with pytest.raises(Unauthenticated):
            identify(IdentitySettings(**settings), peer, metadata)
    else:
        assert identify(IdentitySettings(**settings), peer, metadata) == expected


def test_a_certificate_name_that_is_not_utf8_does_not_crash():
    identify(IdentitySettings(), {NAME: [b"\xff"], SPIFFE: [b"spiffe://\xff"]}, {})
