"""The steps that leave text out: selection, and then, where that is asked for, summaries of what it left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from meshkit.clock import Clock
from services.compressor.choice import Chooser
from services.compressor.meter import Meter
from services.compressor.offload import Offload
from services.compressor.omission import Thinned
from services.compressor.order import Order
from services.compressor.selection.port import Selector
from services.compressor.stages.stage import Loss
from services.compressor.summary import summing
from services.compressor.summary.summing import Summaries
from services.compressor.thinning import query_of, thin
from services.compressor.token_counter import estimated_tokens
from services.compressor.version import Step, Version, kept_if_shorter


class Omitting:
    """Selects in a thread. Without `summaries` nothing is summed up."""

    def __init__(
        self, selector: Selector, summaries: Summaries | None, *, chooser: Chooser, offload: Offload, clock: Clock
    ) -> None:
        self._selector = selector
        self._chooser = chooser
        self._summaries = summaries
        self._offload = offload
        self._clock = clock

    async def weighed(self, order: Order) -> Mapping[str, float]:
        """What the selector notes of all that earlier turns left out, for the question of this one."""
        kept = [*order.sent_before, *(part.text for part in order.parts)]
        left_out = [run for one in order.settled for run in one.left_out]
        return await self._offload.aside(lambda: self._selector.weigh(kept, left_out, query_of(order)))

    async def steps(self, order: Order, before: Version, meter: Meter) -> list[Step]:
        """From this version on."""
        summaries = self._summaries if order.is_abstractive else None
        started_at = self._clock.now()
        texts = before.texts[len(order.settled) :]
        budget_tokens = await _budget(order, before, meter)
        for_summaries = int(summing.SHARE * budget_tokens) if summaries else 0
        is_enough = partial(self._chooser.is_enough, order, before) if order.min_quality is not None else None
        thinning = await self._offload.aside(
            lambda: thin(self._selector, order, texts, budget_tokens - for_summaries, is_enough)
        )
        results = thinning.texts
        after = replace(_thinned(order, before, results), choices=(*before.choices, thinning.features))
        took_s = self._clock.now() - started_at
        count = sum(len(one.left_out) for one in results)
        selected = await kept_if_shorter(self._selector.name, Loss.SELECTIVE, before, after, took_s, count, meter)
        if summaries is None or not selected.segment_count:
            return [selected]
        return [selected, await self._summed(summaries, order, selected, results, for_summaries, meter)]

    async def _summed(
        self,
        summaries: Summaries,
        order: Order,
        selected: Step,
        results: Sequence[Thinned],
        budget_tokens: int,
        meter: Meter,
    ) -> Step:
        """Longer than the selection, and kept while it is shorter than what selection began with."""
        started_at = self._clock.now()
        found = await summaries.of(order, results, budget_tokens)
        after = replace(
            _thinned(order, selected.before, found.parts), choices=selected.after.choices, is_summed_up=True
        )
        is_kept = found.count > 0 and await meter.count(after.texts) < await meter.count(selected.before.texts)
        return Step(
            stage=summing.STAGE,
            loss=Loss.ABSTRACTIVE,
            before=selected.after,
            after=after if is_kept else selected.after,
            duration_s=self._clock.now() - started_at,
            segment_count=found.count if is_kept else 0,
            cost_micro_usd=found.cost_micro_usd,
        )


def _thinned(order: Order, before: Version, results: Sequence[Thinned]) -> Version:
    """The version that these open texts give."""
    return replace(
        before,
        texts=(*order.sent_before, *(one.text for one in results)),
        left_out=(*before.left_out[: len(order.settled)], *(one.left_out for one in results)),
        handles={**before.handles, **{key: run for one in results for key, run in one.handles.items()}},
    )


async def _budget(order: Order, before: Version, meter: Meter) -> int:
    """What the open texts may keep, in estimated tokens: the target in the reader's tokens, scaled to estimates."""
    wanted = (order.target or 1.0) * await meter.count(order.original)
    scale = estimated_tokens(before.texts) / max(1, await meter.count(before.texts))
    return max(1, int(wanted * scale) - estimated_tokens(order.sent_before))
