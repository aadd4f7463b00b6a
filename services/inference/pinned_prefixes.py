"""Which prefixes tenants keep in the cache, and how much one may keep: a quarter of it; all together half of it.

The quarter is counted here, every prefix in full. The half is the engine's to count, which knows what prefixes share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshkit.errors import Overloaded, QuotaExceeded

MOST_PREFIXES = 256
TENANT_SHARE = 0.25
RETRY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """Whole blocks of tokens; shared among sequences with the same salt alone."""

    cache_salt: str
    token_ids: tuple[int, ...]


class PinnedPrefixes:
    """Those that are kept; they outlive an engine, whose next life is told of them."""

    def __init__(self) -> None:
        self._prefixes: dict[Prefix, None] = {}

    def __contains__(self, prefix: Prefix) -> bool:
        return prefix in self._prefixes

    def __iter__(self) -> Iterator[Prefix]:
        return iter(list(self._prefixes))

    def add(self, prefix: Prefix, *, cache_tokens: int) -> None:
        """Raises QuotaExceeded for a tenant that keeps too much, Overloaded where too many are kept."""
        if len(self._prefixes) >= MOST_PREFIXES:
            raise Overloaded(f"{MOST_PREFIXES} prefixes are kept here already", retry_after_s=RETRY_AFTER_S)
        kept = sum(len(other.token_ids) for other in self._prefixes if other.cache_salt == prefix.cache_salt)
        most = int(cache_tokens * TENANT_SHARE)
        if kept + len(prefix.token_ids) > most:
            raise QuotaExceeded(
                f"a tenant may keep {most} tokens of prefixes; {kept} are kept, {len(prefix.token_ids)} more are asked",
                subject=f"tenant:{prefix.cache_salt}",
            )
        self._prefixes[prefix] = None

    def discard(self, prefix: Prefix) -> bool:
        """False where it was not kept."""
        is_kept = prefix in self._prefixes
        self._prefixes.pop(prefix, None)
        return is_kept


def no_room() -> Overloaded:
    """What is raised where all prefixes together would take more than half of the cache."""
    return Overloaded("half of the cache is kept for prefixes already", retry_after_s=RETRY_AFTER_S)
