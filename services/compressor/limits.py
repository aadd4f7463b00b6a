"""What a request to compress may hold; each refusal names the field and its limit."""

from __future__ import annotations

from meshkit.errors import InvalidRequest
from services.compressor.pipeline import Order
from services.compressor.settings import LimitSettings


def check_session(session_id: str, path: str, limits: LimitSettings) -> None:
    """Raise InvalidRequest where the name of the session is too long."""
    if len(session_id.encode()) > limits.max_session_id_bytes:
        limit = f"at most {limits.max_session_id_bytes} bytes"
        raise InvalidRequest("is too long", field=f"{path}session_id", limit=limit)


def check(order: Order, path: str, limits: LimitSettings) -> None:
    """Raise InvalidRequest for the first field outside its limit. `path` goes before each field's name."""
    if order.target_ratio is not None and not 0 < order.target_ratio <= 1:
        raise InvalidRequest(f"{order.target_ratio} is out of range", field=f"{path}target_ratio", limit="(0, 1]")
    if order.min_quality is not None and not 0 <= order.min_quality <= 1:
        raise InvalidRequest(f"{order.min_quality} is out of range", field=f"{path}min_quality", limit="0..1")
    if order.frozen_bytes < 0:
        raise InvalidRequest("must not be negative", field=f"{path}frozen_prefix", limit="at least 0 bytes")
    if min(order.tariff.input_micro_usd, order.tariff.cached_input_micro_usd) < 0:
        raise InvalidRequest("must not be negative", field=f"{path}prices", limit="at least 0 micro-USD")
    _check_protect(order.protect, path, limits)


def _check_protect(protect: tuple[str, ...], path: str, limits: LimitSettings) -> None:
    if len(protect) > limits.max_protect:
        limit = f"{limits.max_protect} strings"
        raise InvalidRequest(f"{len(protect)} is too many", field=f"{path}protect", limit=limit)
    for index, marked in enumerate(protect):
        if not 0 < len(marked.encode()) <= limits.max_protect_bytes:
            limit = f"1..{limits.max_protect_bytes} bytes"
            raise InvalidRequest("is empty or too long", field=f"{path}protect[{index}]", limit=limit)
