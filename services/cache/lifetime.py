"""How long an answer is kept: what the caller asks for, up to a limit, else the default of the last tier, jittered.

An earlier tier keeps its copy for its own time to live at most, jittered too, so that copies do not end together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """The rule. Earlier tiers keep an entry for their own time to live, and never longer than this."""

    default_s: float
    longest_s: float
    jitter: float
    """Largest share taken off the default, so that entries stored together do not expire together."""
    random: Callable[[], float]
    """Uniform in [0, 1)."""

    def seconds(self, asked_s: float | None) -> float:
        """The lifetime of a new entry; the caller's own wish is kept exactly."""
        if asked_s is not None:
            return min(asked_s, self.longest_s)
        return min(self.default_s, self.longest_s) * (1.0 - self.jitter * self.random())


@dataclass(frozen=True, slots=True, kw_only=True)
class TierLifetime:
    """How long one tier keeps a copy."""

    ttl_s: float
    """Infinite for the last tier, which keeps an entry for all its life."""
    jitter: float = 0.0
    random: Callable[[], float] = random.random

    def seconds(self, remaining_s: float) -> float:
        """The copy's lifetime, where so much remains of the entry's own."""
        if remaining_s <= self.ttl_s:
            return remaining_s
        return min(remaining_s, self.ttl_s * (1.0 - self.jitter * self.random()))
