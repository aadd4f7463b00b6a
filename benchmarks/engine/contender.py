"""What is raced: our engine, and peers that do the same work on the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Prompts = Sequence[Sequence[int]]


class Failed(Exception):
    """A peer could not be started or ended in an error; says why."""


class Contender(Protocol):
    """All greedy, all sequences at once, no end-of-text. `hold` comes before `decode`, whose prompts it names."""

    @property
    def name(self) -> str: ...

    def hold(self, prompts: Prompts) -> None:
        """The sequences that `decode` continues. An engine that can keep their keys and values computes them now."""

    def decode(self, drawn: int) -> float:
        """Tokens per second of all sequences together while each draws `drawn` tokens after its prompt."""

    def prefill(self, prompts: Prompts) -> float:
        """Prompt tokens per second up to the first token of the last prompt, nothing cached."""
