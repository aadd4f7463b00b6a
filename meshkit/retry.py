"""How much may be retried: a budget, so that retries never multiply an outage.

Every request earns a fraction of a retry, every retry spends one. Source: the retry-throttling of gRPC's A6,
https://github.com/grpc/proposal/blob/master/A6-client-retries.md
"""

from __future__ import annotations

import random

_LARGEST_EXPONENT = 30


class RetryBudget:
    """A token bucket: `ratio` of all requests may be retried, and `burst` at once."""

    def __init__(self, *, ratio: float = 0.1, burst: float = 10.0) -> None:
        self._ratio = ratio
        self._burst = burst
        self._tokens = burst

    def earn(self) -> None:
        """A request began."""
        self._tokens = min(self._burst, self._tokens + self._ratio)

    def spend(self) -> bool:
        """Take one retry; False where the budget is used up."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def backoff_s(attempt: int, *, first_s: float = 0.02, longest_s: float = 1.0) -> float:
    """Time to wait before retry number `attempt` (from 1): exponential with full jitter."""
    return random.uniform(0, min(longest_s, first_s * 2 ** min(attempt - 1, _LARGEST_EXPONENT)))
