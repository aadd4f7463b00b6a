"""What a runner gives for a step: its rows of logits as rank 0 sees them. Plain arrays, no tensors.

Legend: S ranks, W words of one rank (see `candidates`), R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.inference.engine.candidates import Floats, Layout
from services.inference.engine.plan import WHOLE_ROW, Excerpt, StepPlan


class Rows:
    """Valid until the next step. Of rows whose excerpt is enough, `logits_RV` may hold anything."""

    def __init__(
        self, excerpts: Many[Excerpt], layout: Layout, words_SW: Floats, logits_RV: NDArray[np.float32]
    ) -> None:
        self.excerpts, self.layout = excerpts, layout
        self.words_SW, self.logits_RV = words_SW, logits_RV

    @classmethod
    def whole(cls, logits_RV: NDArray[np.float32]) -> Rows:
        """Without excerpts: everything is read from the rows themselves."""
        excerpts = [WHOLE_ROW] * len(logits_RV)
        return cls(excerpts, Layout(excerpts), np.zeros((1, len(excerpts))), logits_RV)


class Runner(Protocol):
    """Runs a plan on all ranks; gives the rows in the order of the plan's chunks."""

    def run(self, plan: StepPlan) -> Rows: ...
