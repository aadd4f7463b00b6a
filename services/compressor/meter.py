"""Counts the versions of one prompt, each once; without a counter it estimates."""

from __future__ import annotations

from services.compressor.token_counter import TokenCounter, estimated_tokens

Texts = tuple[str, ...]


class Meter:
    """Counts whole prompts. Raises CountUnavailable where its counter does."""

    def __init__(self, counter: TokenCounter | None) -> None:
        self._counter = counter
        self._counts: dict[Texts, int] = {}
        self.is_estimate = counter is None

    @property
    def has_counted(self) -> bool:
        """Whether anybody was asked."""
        return bool(self._counts)

    async def count(self, texts: Texts) -> int:
        """Tokens of the prompt with these texts."""
        if texts not in self._counts:
            self._counts[texts] = await self._counter.count(texts) if self._counter else estimated_tokens(texts)
        return self._counts[texts]
