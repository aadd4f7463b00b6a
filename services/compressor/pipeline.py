"""The order of stages over one prompt, and what is told about it.

A stage's result is kept only where the tokens of the whole prompt become fewer; otherwise the next stage sees what the
stage before left. Text up to the frozen prefix, and texts of roles that a stage does not name, never change, whatever
comes before or after them: what a turn became stays the same as the conversation grows. Of the versions that come
about, `choice` says which one goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from meshkit.clock import Clock
from services.compressor.choice import Chooser
from services.compressor.meter import Meter
from services.compressor.offload import Offload
from services.compressor.omitting import Omitting
from services.compressor.order import Order, Outcome, StageReport
from services.compressor.prompt_text import frozen_chars, has_same_head
from services.compressor.selection.port import Selector
from services.compressor.shield import shield
from services.compressor.stages.stage import Loss, Stage
from services.compressor.summary import summing
from services.compressor.summary.summing import Summaries
from services.compressor.token_counter import CountUnavailable, TokenCounter
from services.compressor.version import Step, Version, as_asked, as_settled, kept_if_shorter

VERSION = "selective-7"
"""Rises whenever the same prompt would be compressed otherwise; part of the response cache's key."""

__all__ = ["VERSION", "Order", "Outcome", "Pipeline", "StageReport", "Strategy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One thing that may happen to a prompt."""

    name: str
    description: str
    loss: Loss


class Pipeline:
    """Runs the stages. Large texts are rewritten off the event loop."""

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        offload: Offload,
        clock: Clock,
        selector: Selector | None = None,
        summaries: Summaries | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        self.stages = tuple(stages)
        self.selector = selector
        self.summaries = summaries if selector else None
        self._offload = offload
        self._clock = clock
        self._chooser = chooser or Chooser({stage.name: stage.quality for stage in stages})
        self._omitting = (
            Omitting(selector, summaries, chooser=self._chooser, offload=offload, clock=clock) if selector else None
        )

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """All that may happen to a prompt, in order."""
        listed = [Strategy(name=one.name, description=one.description, loss=one.loss) for one in self.stages]
        if self.selector:
            found = self.selector
            listed.append(Strategy(name=found.name, description=found.description, loss=Loss.SELECTIVE))
        if self.summaries:
            listed.append(Strategy(name=summing.STAGE, description=summing.DESCRIPTION, loss=Loss.ABSTRACTIVE))
        return tuple(listed)

    @property
    def version(self) -> str:
        """Of the code and of what this instance selects and sums up with."""
        return "+".join([VERSION, *(one.name for one in (self.selector, self.summaries) if one)])

    async def compress(self, order: Order, counter: TokenCounter | None) -> Outcome:
        """The shorter prompt, or the original with the reason. Without a counter that answers, counts are estimates."""
        if counter is not None:
            try:
                return await self._run(order, Meter(counter))
            except CountUnavailable:
                pass
        return await self._run(order, Meter(None))

    async def _run(self, order: Order, meter: Meter) -> Outcome:
        started_at = self._clock.now()
        if self._omitting and any(one.left_out for one in order.settled):
            order = replace(order, earlier_choices=await self._omitting.weighed(order))
        took_s = self._clock.now() - started_at
        steps = [_earlier_turns(order, took_s)] if order.original[: len(order.settled)] != order.sent_before else []
        steps += await self._lossless(order, meter)
        if order.is_selective and self._omitting and not await _is_target_met(order, _last(steps, order), meter):
            steps += await self._omitting.steps(order, _last(steps, order), meter)
        if not meter.has_counted:
            # Nothing changed: the engine will count this very text, and counting it here would delay its first token.
            meter = Meter(None)
        return await self._outcome(order, steps, meter)

    async def _lossless(self, order: Order, meter: Meter) -> list[Step]:
        steps: list[Step] = []
        for stage in self.stages:
            if not self._chooser.is_used(order, stage.name):
                continue
            step = await self._step(stage, order, _last(steps, order), meter)
            steps.append(step.refused(self._chooser.refusal(order, step.after)))
            if steps[-1].after.texts != order.original and await _is_target_met(order, steps[-1].after, meter):
                break
        return steps

    async def _step(self, stage: Stage, order: Order, before: Version, meter: Meter) -> Step:
        """Run one stage and keep what it made only where that has fewer tokens."""
        started_at = self._clock.now()
        texts = before.texts[len(order.settled) :]
        size = sum(len(text) for text in texts)
        changed, segment_count = await self._offload.run(lambda: _rewritten(stage, order, texts), size=size)
        after = replace(
            before, texts=(*order.sent_before, *changed), rewritten_by=before.rewritten_by | frozenset({stage.name})
        )
        took_s = self._clock.now() - started_at
        return await kept_if_shorter(stage.name, stage.loss, before, after, took_s, segment_count, meter)

    async def _outcome(self, order: Order, steps: Sequence[Step], meter: Meter) -> Outcome:
        chosen = await self._chooser.choose(order, steps, meter)
        is_original = chosen.version.texts == order.original
        return Outcome(
            texts=chosen.version.texts,
            left_out=chosen.version.left_out,
            handles=chosen.version.handles,
            rewritten_by=chosen.version.rewritten_by,
            is_summed_up=chosen.version.is_summed_up,
            original_tokens=await meter.count(order.original),
            compressed_tokens=await meter.count(chosen.version.texts),
            quality=chosen.quality,
            is_prefix_kept=has_same_head(order.original, chosen.version.texts, order.frozen_bytes),
            stages=tuple([await step.report(meter) for step in steps]),
            reason_original_kept=(chosen.reason or "no stage makes it shorter") if is_original else "",
            is_estimate=meter.is_estimate,
            net_benefit_micro_usd=chosen.net_benefit_micro_usd,
        )


def _earlier_turns(order: Order, took_s: float) -> Step:
    """The ledger's entry for messages that stay what they became."""
    after = as_settled(order)
    loss = Loss.SELECTIVE if after.is_thinned else Loss.LOSSLESS
    changed = sum(one.sent != one.original for one in order.settled)
    return Step(
        stage="earlier_turns", loss=loss, before=as_asked(order), after=after, duration_s=took_s, segment_count=changed
    )


def _last(steps: Sequence[Step], order: Order) -> Version:
    return steps[-1].after if steps else as_settled(order)


def _rewritten(stage: Stage, order: Order, texts: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """Every open part's text after the stage, and the number of segments rewritten."""
    frozen = frozen_chars(texts, order.frozen_bytes)
    after: list[str] = []
    segment_count = 0
    for part, text, frozen_count in zip(order.parts, texts, frozen, strict=True):
        if part.role not in stage.roles or not text or frozen_count >= len(text):
            after.append(text)
            continue
        result = stage.rewrite(text, shield(text, protect=order.protect, frozen_chars=frozen_count))
        after.append(result.text)
        segment_count += result.segment_count
    return tuple(after), segment_count


async def _is_target_met(order: Order, version: Version, meter: Meter) -> bool:
    if order.target is None:
        return False
    return await meter.count(version.texts) <= order.target * await meter.count(order.original)
