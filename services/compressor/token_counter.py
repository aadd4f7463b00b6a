"""Who counts tokens: an instance of the model that will read them, else an estimate that says that it is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_BYTES_PER_TOKEN = 4


class CountUnavailable(Exception):
    """Nobody can count in this model's vocabulary now."""


class TokenCounter(Protocol):
    """Counts one prompt, of which only the texts change."""

    async def count(self, texts: Sequence[str]) -> int:
        """Tokens of the prompt with these texts in the places of its own. Raises CountUnavailable."""
        ...


def estimated_tokens(texts: Sequence[str]) -> int:
    """Four bytes a token: about right for English prose; too many for runs of blanks, too few for dense punctuation."""
    byte_count = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return -(-byte_count // _BYTES_PER_TOKEN)
