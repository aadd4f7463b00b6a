"""The port of a stage: rewrites one text, or leaves it as it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from services.compressor.shield import Shield


class Loss(IntEnum):
    """What a stage may lose; the numbers are the contract's."""

    LOSSLESS = 1
    SELECTIVE = 2
    ABSTRACTIVE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Predicted chance that the reader's answer is unchanged, with its 95 % interval; all in 0..1."""

    score: float
    low: float
    high: float

    def and_then(self, later: Quality) -> Quality:
        """Of two changes, taken as independent."""
        return Quality(score=self.score * later.score, low=self.low * later.low, high=self.high * later.high)


UNCHANGED = Quality(score=1.0, low=1.0, high=1.0)
"""Identical bytes give an identical answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """A stage's result for one text."""

    text: str
    segment_count: int
    """Segments that were rewritten; 0 where the text is unchanged."""


class Stage(Protocol):
    """A pure function of text and shield, bounded in time by the text's length; it never raises."""

    name: str
    description: str
    loss: Loss
    quality: Quality
    """What is believed while no evidence names this stage; see quality/evidence.py."""
    roles: frozenset[str]
    """Roles of the messages whose text it may rewrite."""

    def rewrite(self, text: str, shield: Shield) -> Rewritten:
        """The text with every segment rewritten that gets shorter by it."""
        ...
