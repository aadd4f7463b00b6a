"""The port of a prediction of quality, and the one that is made without any evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from services.compressor.stages.stage import Quality


class Forecast(Protocol):
    """A pure function, bounded in time by the texts' length."""

    def predict(self, features: Mapping[str, float]) -> Quality:
        """The chance that the reader's answer is the same without what the selector left out.

        `features`: what the selector noted of its choice; empty where that is not known of all that is left out.
        """
        ...


UNMEASURED = Quality(score=0.5, low=0.0, high=1.0)
"""One half, somewhere in 0..1."""


class Unmeasured:
    """Knows nothing: any chance is possible."""

    def predict(self, features: Mapping[str, float]) -> Quality:
        return UNMEASURED
