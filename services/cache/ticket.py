"""What a look-up gives for its commit: the request's digest, and the tenant's number at that moment.

So an answer whose generation began before an invalidation is not stored as if it were newer. Callers take it as opaque
bytes; what a forged one could claim is bounded by `ResponseCache.commit`.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshkit.errors import InvalidRequest
from services.cache.request_key import DIGEST_BYTES

_EPOCH_BYTES = 8
_TICKET_BYTES = DIGEST_BYTES + _EPOCH_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A request of some tenant, looked up under this number."""

    digest: bytes
    epoch: int

    def __bytes__(self) -> bytes:
        return self.digest + self.epoch.to_bytes(_EPOCH_BYTES, "big")


def ticket_from(packed: bytes) -> Ticket:
    """What a look-up gave; a bare digest, as older versions give, counts as the oldest. Raises InvalidRequest."""
    if len(packed) not in (DIGEST_BYTES, _TICKET_BYTES):
        limit = f"the {_TICKET_BYTES} bytes that Lookup gave"
        raise InvalidRequest(f"{len(packed)} bytes is not a digest", field="digest", limit=limit)
    return Ticket(digest=packed[:DIGEST_BYTES], epoch=int.from_bytes(packed[DIGEST_BYTES:], "big"))
