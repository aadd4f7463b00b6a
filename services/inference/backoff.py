"""How long to wait before an engine is started again: doubling, bounded, and forgotten after a long enough life."""

from __future__ import annotations

LONG_LIFE_S = 60.0


class Backoff:
    """Counts lives that ended early."""

    def __init__(self, *, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def after(self, served_s: float) -> float:
        """Seconds to wait after a life that served for this long (0: it never did)."""
        if served_s >= LONG_LIFE_S:
            self._next_s = self._first_s
        wait_s = self._next_s
        self._next_s = min(self._longest_s, wait_s * 2)
        return wait_s
