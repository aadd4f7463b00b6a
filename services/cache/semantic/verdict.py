"""What a look-up by meaning says: hit or miss, what decided, how alike the questions are, how wrong it may be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Decider(IntEnum):
    """What decided; the numbers are the contract's."""

    NONE = 0
    """Nothing was compared by meaning."""
    ERROR_BOUND = 1
    """No guard objected: the bound against what the caller accepts."""
    NO_NEIGHBOUR = 2
    """No stored question is alike."""
    SAMPLE = 3
    """It would have been a hit, and was drawn to be generated again, to check the bound."""
    GUARD_NUMBERS = 4
    GUARD_POLARITY = 5
    GUARD_ENTITIES = 6
    GUARD_UNITS = 7
    GUARD_WORD_ORDER = 8
    GUARD_LANGUAGE = 9
    GUARD_LENGTH = 10
    GUARD_QUESTION_KIND = 11
    NOT_COMPARABLE = 12
    """The request has no question that can be compared: token ids, a last turn that is not the user's, or too long."""
    OVERLOADED = 13
    """More look-ups wait than the limit."""
    UNAVAILABLE = 14
    """The packages for it are not installed, or the setting is off."""
    EVICTED = 15
    """A stored question was close enough, and its answer is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome for one question. `error_bound` and `similarity` are those of the closest question, where known."""

    decided_by: Decider
    similarity: float | None = None
    error_bound: float | None = None
    detail: str = ""
    """For UNAVAILABLE: why."""
