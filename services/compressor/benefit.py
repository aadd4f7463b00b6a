"""What sending one version of a prompt instead of the original gains, after what it costs.

Tokens saved are worth their price. The reader's prefix cache is taken to hold what went out last time in this
conversation: as far as a version starts with those bytes its tokens are billed as cached, so a version that breaks with
them loses those reads. The time that the stages took is billed at the price of a core, and what models were asked at
theirs; both are spent whichever version goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.compressor.meter import Meter, Texts
from services.compressor.order import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the stages took."""

    time_s: float = 0.0
    micro_usd_per_s: float = 0.0
    model_micro_usd: float = 0.0

    @property
    def micro_usd(self) -> float:
        """All of it."""
        return self.time_s * self.micro_usd_per_s + self.model_micro_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Benefit:
    """Micro-USD, or, without a known price, tokens of new input."""

    micro_usd: float
    saved_tokens: float
    lost_reads: float
    """Tokens that the reader would have had in its prefix cache."""
    spent_micro_usd: float

    @property
    def is_negative(self) -> bool:
        """Whether the original is the better deal."""
        return self.micro_usd < 0

    @property
    def in_words(self) -> str:
        """Why it does not pay."""
        return (
            f"it would cost more than it saves: {self.saved_tokens:.0f} tokens fewer, "
            f"{max(0.0, self.lost_reads):.0f} prefix-cache reads lost, {self.spent_micro_usd:.3g} micro-USD spent on it"
        )


async def benefit(order: Order, texts: Texts, meter: Meter, spent: Spent) -> Benefit:
    """Of these texts against the original. Raises CountUnavailable where the meter does."""
    original_tokens, tokens = await meter.count(order.original), await meter.count(texts)
    # A frozen prefix is the same in both, so whether the reader holds it makes no difference.
    original_cached = original_tokens * _shared(order.original, order.last_sent)
    cached = tokens * _shared(texts, order.last_sent)
    spent_micro_usd = spent.micro_usd if order.tariff.is_known else 0.0
    saved = order.tariff.cost(tokens=original_tokens, cached_tokens=original_cached) - order.tariff.cost(
        tokens=tokens, cached_tokens=cached
    )
    return Benefit(
        micro_usd=saved - spent_micro_usd,
        saved_tokens=original_tokens - tokens,
        lost_reads=original_cached - cached,
        spent_micro_usd=spent_micro_usd,
    )


def _shared(texts: Sequence[str], last_sent: Sequence[str]) -> float:
    """The share of these texts' bytes that starts like what went out last time; 0..1."""
    same = 0
    for text, sent in zip(texts, last_sent, strict=False):
        length = _common_bytes(text.encode("utf-8", "surrogatepass"), sent.encode("utf-8", "surrogatepass"))
        same += length
        if text != sent:
            break
    total = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return same / total if total else 0.0


def _common_bytes(one: bytes, other: bytes) -> int:
    """The length of the common head, by halving."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
