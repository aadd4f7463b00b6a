"""How near texts are to a question in meaning, word by word: of each of the question's words the nearest in the text.

A question's word counts by how rare it is, in general and among these texts. Comparing words instead of whole sentences
finds the one sentence that says it, and costs a thousandth of running the embedding model on every sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meshkit.embedding.minilm import Unavailable
from meshkit.embedding.words import UNKNOWN, WordVectors
from services.compressor.selection.terms import STOP_WORDS

_MOST_QUERY_WORDS = 48
_MOST_UNKNOWN_SHARE = 0.3
"""Beyond it the question is in a language that the table does not know."""
_LEAST_RARITY = 1.05
"""That of marks of punctuation and single letters."""
_SHARPNESS = 4
"""How much nearer than half a word must be to count as there: cosines to this power are summed."""
_COLUMNS = 65_536
"""Word pieces of texts compared at a time, which bounds memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeness:
    """Of each text and each of the question's words, how near the nearest word is; and the weights of those words."""

    nearest_NQ: Any
    weights_Q: Any

    def of(self, numbers: Sequence[int]) -> float:
        """Of these texts taken together; 0..1."""
        if not numbers:
            return 0.0
        return float(self.nearest_NQ[list(numbers)].max(axis=0) @ self.weights_Q)


def closeness(texts: Sequence[str], query: str, words: WordVectors) -> Closeness | None:
    """None where the words can't tell: no table, or a language that it does not know."""
    try:
        ids = words.ids([*texts, query])
        asked = _asked(ids.pop(), words)
        if not asked or not any(ids):
            return None
        return _compared(ids, asked, words)
    except Unavailable:
        return None


def _asked(ids: list[int], words: WordVectors) -> list[int]:
    """The question's word pieces that say something, the rarest where it has many."""
    if not ids or ids.count(UNKNOWN) > _MOST_UNKNOWN_SHARE * len(ids):
        return []
    idle = {found[0] for found in words.ids(sorted(STOP_WORDS)) if len(found) == 1}
    known = list(dict.fromkeys(one for one in ids if one != UNKNOWN))
    telling = [one for one in known if one not in idle and words.rarity([one])[0] > _LEAST_RARITY] or known
    telling.sort(key=lambda one: -float(words.rarity([one])[0]))
    return telling[:_MOST_QUERY_WORDS]


def _compared(ids: list[list[int]], asked: list[int], words: WordVectors) -> Closeness:
    import numpy as np

    distinct = sorted({one for text in ids for one in text})
    column_of = {one: column for column, one in enumerate(distinct)}
    cosines_QU = np.maximum(words.cosines(asked, distinct), 0.0)
    nearest_NQ = np.zeros((len(ids), len(asked)), np.float32)
    for number, text in enumerate(ids):
        for start in range(0, len(text), _COLUMNS):
            columns = [column_of[one] for one in text[start : start + _COLUMNS]]
            np.maximum(nearest_NQ[number], cosines_QU[:, columns].max(axis=1), out=nearest_NQ[number])
    weights_Q = words.rarity(asked) * _local_rarity(nearest_NQ)
    return Closeness(nearest_NQ=nearest_NQ, weights_Q=weights_Q / weights_Q.sum())


def _local_rarity(nearest_NQ: Any) -> Any:
    """How much each of the question's words tells these texts apart: little where all hold it, or all hold its like."""
    import numpy as np

    text_count = len(nearest_NQ)
    return np.log1p((text_count + 0.5) / ((nearest_NQ**_SHARPNESS).sum(axis=0) + 0.5))
