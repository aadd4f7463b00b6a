"""What a token of the reader's input costs, so that a saving can be weighed against what it costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """Micro-USD per million tokens of input, computed and read from the reader's prefix cache."""

    input_micro_usd: float
    cached_input_micro_usd: float
    is_known: bool = True
    """False: only the ratio of the two prices is assumed, so nothing can be said in money."""

    def cost(self, *, tokens: float, cached_tokens: float) -> float:
        """Of a prompt, of which so many tokens are read from the prefix cache; micro-USD."""
        fresh = tokens - cached_tokens
        return (fresh * self.input_micro_usd + cached_tokens * self.cached_input_micro_usd) / 1_000_000


UNKNOWN = Tariff(input_micro_usd=1_000_000, cached_input_micro_usd=250_000, is_known=False)
"""A token counts 1, and a token read from the prefix cache a quarter: the ratio of the router's default prices."""
