"""A prompt between two stages, and the ledger of the stage between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.compressor.meter import Meter, Texts
from services.compressor.order import Order, StageReport
from services.compressor.stages.stage import Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The texts of all messages and what was done to them so far."""

    texts: Texts
    left_out: tuple[tuple[str, ...], ...]
    """Of each message."""
    handles: Mapping[str, str] = field(default_factory=dict)
    rewritten_by: frozenset[str] = frozenset()
    """The lossless stages that changed something."""
    is_summed_up: bool = False
    """Whether summaries stand for some of what is left out."""
    choices: tuple[Mapping[str, float], ...] = ()
    """What the selector noted of each choice that left something out; empty notes where nothing is known of one."""

    @property
    def is_thinned(self) -> bool:
        """Whether anything is left out."""
        return any(self.left_out)


def as_asked(order: Order) -> Version:
    """What the caller sent, nothing settled."""
    return Version(texts=order.original, left_out=((),) * len(order.original))


def as_settled(order: Order) -> Version:
    """Earlier turns as they became, the rest as the caller sent it."""
    left_out = (*(one.left_out for one in order.settled), *(() for _ in order.parts))
    return Version(
        texts=(*order.sent_before, *(part.text for part in order.parts)),
        left_out=left_out,
        handles=_handles(order, left_out),
        rewritten_by=frozenset().union(*(one.rewritten_by for one in order.settled)),
        is_summed_up=any(one.is_summed_up for one in order.settled),
        choices=(order.earlier_choices,) if any(left_out) else (),
    )


def _handles(order: Order, left_out: tuple[tuple[str, ...], ...]) -> dict[str, str]:
    if order.handle_of is None:
        return {}
    return {order.handle_of(run): run for runs in left_out for run in runs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one stage did; `after` is `before` where its work was not kept."""

    stage: str
    loss: Loss
    before: Version
    after: Version
    duration_s: float
    segment_count: int
    cost_micro_usd: float = 0.0
    """Of the models that it asked."""
    refusal: str = ""
    """Why its shorter version is not kept."""

    async def report(self, meter: Meter) -> StageReport:
        """Its entry in the ledger."""
        return StageReport(
            stage=self.stage,
            loss=self.loss,
            tokens_before=await meter.count(self.before.texts),
            tokens_after=await meter.count(self.after.texts),
            duration_s=self.duration_s,
            segment_count=self.segment_count,
        )

    def refused(self, refusal: str) -> Step:
        """The same step with its work undone, where it did something and there is a reason to undo it."""
        if not refusal or not self.segment_count:
            return self
        return replace(self, after=self.before, segment_count=0, refusal=refusal)


async def kept_if_shorter(
    name: str, loss: Loss, before: Version, after: Version, duration_s: float, segment_count: int, meter: Meter
) -> Step:
    """The step to `after` where that has fewer tokens, else one that did nothing."""
    if not segment_count or await meter.count(after.texts) >= await meter.count(before.texts):
        after, segment_count = before, 0
    return Step(stage=name, loss=loss, before=before, after=after, duration_s=duration_s, segment_count=segment_count)
