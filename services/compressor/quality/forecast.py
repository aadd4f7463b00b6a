"""The port of a prediction of quality, and the one that is made without any evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.compressor.stages.stage import Quality


class Forecast(Protocol):
    """A pure function, bounded in time by the texts' length."""

    def predict(self, query: str, kept: Sequence[str], left_out: Sequence[str]) -> Quality:
        """The chance that the answer to this query is the same without what is left out."""
        ...


class Unmeasured:
    """Knows nothing: any chance is possible."""

    def predict(self, query: str, kept: Sequence[str], left_out: Sequence[str]) -> Quality:
        """One half, somewhere in 0..1."""
        return Quality(score=0.5, low=0.0, high=1.0)
