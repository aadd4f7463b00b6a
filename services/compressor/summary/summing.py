"""Which of the texts that were left out are summed up, and in how many tokens: the longest, each by its share of what
the budget has left for summaries.

A summary stands where its text stood, in the same message, and is marked as one: what a document says stays data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.compressor.omission import Thinned, thinned
from services.compressor.order import Order
from services.compressor.stages.stage import Quality
from services.compressor.summary.port import Summarizer, Summary
from services.compressor.thinning import query_of
from services.compressor.token_counter import estimated_tokens

STAGE = "summary"
DESCRIPTION = "Has a fast model of the mesh sum up what selection left out"
SHARE = 0.25
"""Of the target, kept free by selection for summaries."""
UNMEASURED = Quality(score=0.5, low=0.0, high=1.0)
"""What a summary does to a reader's answers, until it is measured."""
_FEWEST_TOKENS = 16
_LONGEST_SHARE = 0.3
"""Of a text's tokens; a longer summary saves too little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summed:
    """The texts with summaries, how many there are, and what they cost."""

    parts: tuple[Thinned, ...]
    count: int
    cost_micro_usd: float


class Summaries:
    """Has up to `most` texts of a prompt summed up, those of `least_tokens` or more."""

    def __init__(self, summarizer: Summarizer, *, least_tokens: int, most: int) -> None:
        self._summarizer = summarizer
        self._least_tokens = least_tokens
        self._most = most

    @property
    def name(self) -> str:
        """What sums up."""
        return self._summarizer.name

    def serves(self, tenant: str) -> bool:
        """Whether this tenant's texts may be summed up."""
        return self._summarizer.serves(tenant)

    async def of(self, order: Order, parts: Sequence[Thinned], budget_tokens: int) -> Summed:
        """These texts with summaries of about so many tokens together."""
        runs = [run for part in parts if part.runs for run in part.left_out]
        limits = _limits(runs, budget_tokens, self._least_tokens, self._most)
        query = query_of(order)
        asking = (self._summarizer.summarize(run, query=query, max_tokens=limit) for run, limit in limits.items())
        answers = dict(zip(limits, await asyncio.gather(*asking), strict=True))
        found: dict[str, Summary] = {run: answer for run, answer in answers.items() if answer is not None}
        said = {run: summary.text for run, summary in found.items() if len(summary.text) < len(run)}
        return Summed(
            parts=tuple(thinned(part.runs, order.handle_of, said) if part.runs else part for part in parts),
            count=len(said),
            cost_micro_usd=sum(summary.cost_micro_usd for summary in found.values()),
        )


def _limits(runs: Sequence[str], budget_tokens: int, least_tokens: int, most: int) -> Mapping[str, int]:
    """Tokens for each text that is summed up; equal texts are one."""
    sizes = {run: estimated_tokens([run]) for run in runs}
    longest = sorted((run for run in sizes if sizes[run] >= least_tokens), key=lambda run: -sizes[run])[:most]
    total = sum(sizes[run] for run in longest)
    limits = {run: int(min(budget_tokens * sizes[run] / total, _LONGEST_SHARE * sizes[run])) for run in longest}
    return {run: limit for run, limit in limits.items() if limit >= _FEWEST_TOKENS}
