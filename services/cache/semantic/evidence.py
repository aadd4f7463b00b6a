"""What one partition has seen: the pairs that were judged lately, and the labels that some of them got. Bounded.

Labels of would-be hits, which are drawn rarely, have a share of their own, so that the many labels of uncertain pairs
never push them out. Rows are kept as plain floats: 36 bytes a label.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

MOST_LABELS = 8_192
"""Of uncertain pairs; and as many of would-be hits."""
MOST_SEEN = 4_096


class Ring:
    """The last rows, each of the same width."""

    def __init__(self, width: int, most_rows: int) -> None:
        self._width = width
        self._most_rows = most_rows
        self._values = array("f")
        self._next = 0

    def __len__(self) -> int:
        return len(self._values) // self._width

    @property
    def size_bytes(self) -> int:
        return len(self._values) * self._values.itemsize

    def add(self, row: Sequence[float]) -> None:
        if len(self) < self._most_rows:
            self._values.extend(row)
            return
        start = self._next * self._width
        self._values[start : start + self._width] = array("f", row)
        self._next = (self._next + 1) % self._most_rows

    def matrix(self) -> Any:
        """A copy, as rows of float64."""
        import numpy as np

        return np.array(self._values, dtype=np.float64).reshape(len(self), self._width)


class Evidence:
    """Rows of features; labelled ones end in 1 for right and 0 for wrong."""

    def __init__(self, width: int) -> None:
        self._seen = Ring(width, MOST_SEEN)
        self._uncertain = Ring(width + 1, MOST_LABELS)
        self._sampled = Ring(width + 1, MOST_LABELS)

    @property
    def label_count(self) -> int:
        return len(self._uncertain) + len(self._sampled)

    @property
    def size_bytes(self) -> int:
        return self._seen.size_bytes + self._uncertain.size_bytes + self._sampled.size_bytes

    def saw(self, features: Sequence[float]) -> None:
        """A pair was judged, whatever became of it."""
        self._seen.add(features)

    def label(self, features: Sequence[float], *, is_right: bool, was_certain: bool) -> None:
        """It turned out. `was_certain`: it would have been a hit."""
        (self._sampled if was_certain else self._uncertain).add((*features, float(is_right)))

    def snapshot(self) -> tuple[Any, Any, Any]:
        """Features of all that was seen, features of what was labelled, and its labels."""
        import numpy as np

        labelled = np.concatenate([self._uncertain.matrix(), self._sampled.matrix()])
        return self._seen.matrix(), labelled[:, :-1], labelled[:, -1]
