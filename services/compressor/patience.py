"""How long the compressor waits for others: never so long that no time is left to answer without them."""

from __future__ import annotations

from meshkit.incoming import current_call


def patience_s(timeout_s: float) -> float:
    """At most `timeout_s` and half of what the caller's deadline leaves."""
    remaining_s = current_call().remaining_s()
    return timeout_s if remaining_s is None else max(0.0, min(timeout_s, remaining_s / 2))
