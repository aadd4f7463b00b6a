"""The port of selection: which pieces of a prompt are worth sending to a reader that has this question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.compressor.prompt_text import Part
from services.compressor.shield import Shield


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to select from, for what, and how much of it."""

    parts: tuple[Part, ...]
    """The prompt's texts in order, as the lossless stages left them."""
    shields: tuple[Shield, ...]
    """Of each part: what must be kept."""
    query: str
    """The live instruction; empty where the prompt has none, and then nothing is left out by relevance."""
    budget_tokens: int
    """Wanted size of all texts together, by `count`; kept pieces that are protected may exceed it."""
    count: Callable[[str], int]
    """Tokens of one text, cheap and approximate."""
    can_expand: bool = False
    """Whether the reader can fetch what is left out."""
    is_enough: Callable[[Mapping[str, float]], bool] | None = None
    """Whether a choice of these features may go out. A selector whose choice may not makes gentler ones, over the
    budget, before it gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of a part's text; a part's pieces joined are its text."""

    text: str
    is_kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A selector's result."""

    parts: tuple[tuple[Piece, ...], ...]
    """Of each part, in order, its pieces in order."""
    features: Mapping[str, float] = field(default_factory=dict)
    """What a prediction of quality may use: finite numbers, the same names in every result of a selector."""


class Selector(Protocol):
    """Chooses whole pieces (sentences, chunks, turns, records); never rewrites. Deterministic, bounded in time by the
    text's length, safe to run in a thread; it never raises."""

    name: str
    description: str

    def select(self, task: Task) -> Selected:
        """The pieces of every part, each kept or not."""
        ...

    def weigh(self, kept: Sequence[str], left_out: Sequence[str], query: str) -> Mapping[str, float]:
        """The features of a choice that was made before, for a question that is asked now; empty: not known."""
        ...
