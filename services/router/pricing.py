"""What tokens cost, and what a mechanism saved. Money is whole micro-USD, rounded half up once per entry."""

from __future__ import annotations

from dataclasses import dataclass

from services.router.events import Compression, Cost, Usage

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Micro-USD per million tokens."""

    input_micro_usd: int
    cached_input_micro_usd: int
    output_micro_usd: int


FREE = Price(input_micro_usd=0, cached_input_micro_usd=0, output_micro_usd=0)


def bill(price: Price, usage: Usage, compression: Compression | None) -> Cost:
    """The cost of an answer that was generated."""
    fresh_tokens = usage.prompt_tokens - usage.cached_prompt_tokens
    input_cost = _of(fresh_tokens, price.input_micro_usd)
    cached_cost = _of(usage.cached_prompt_tokens, price.cached_input_micro_usd)
    output_cost = _of(usage.completion_tokens, price.output_micro_usd)
    total = input_cost + cached_cost + output_cost
    saved = _of(compression.saved_tokens, price.input_micro_usd) if compression else 0
    return Cost(
        input=input_cost,
        cached_input=cached_cost,
        output=output_cost,
        total=total,
        saved_by_compression=saved,
        counterfactual=total + saved,
    )


def bill_of_hit(cost_micro_usd: int) -> Cost:
    """The cost of an answer that the cache had: nothing, where generating it had cost this much."""
    return Cost(total=0, saved_by_cache=cost_micro_usd, counterfactual=cost_micro_usd)


def _of(tokens: int, price_micro_usd: int) -> int:
    return (tokens * price_micro_usd + _MILLION // 2) // _MILLION
