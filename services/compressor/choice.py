"""Which version of a prompt goes out: the shortest whose predicted quality reaches the floor and that pays.

The versions are tried from the shortest to the original, so that where selection is not worth it, the lossless stages'
work still may be. The caller's own prompt is always good enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from services.compressor.benefit import Benefit, Spent, benefit
from services.compressor.meter import Meter
from services.compressor.order import Order
from services.compressor.quality.forecast import Forecast, Unmeasured
from services.compressor.stages.stage import UNCHANGED, Loss, Quality
from services.compressor.summary.summing import UNMEASURED
from services.compressor.version import Step, Version, as_asked, as_settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What goes out."""

    version: Version
    quality: Quality
    reason: str = ""
    """Why a shorter version does not; empty where none is shorter."""
    net_benefit_micro_usd: float | None = None


class Chooser:
    """Weighs versions.

    `priors`: what is believed of each lossless stage. `least_format_quality`: of a stage that is used without a floor.
    """

    def __init__(
        self,
        priors: Mapping[str, Quality],
        *,
        forecast: Forecast | None = None,
        least_format_quality: float = 0.0,
        micro_usd_per_s: float = 0.0,
    ) -> None:
        self._priors = priors
        self._forecast = forecast or Unmeasured()
        self._least_format_quality = least_format_quality
        self._micro_usd_per_s = micro_usd_per_s

    async def choose(self, order: Order, steps: Sequence[Step], meter: Meter) -> Chosen:
        """The version to send. Raises CountUnavailable where the meter does."""
        reason = next((step.refusal for step in steps if step.refusal), "")
        spent = Spent(
            time_s=sum(step.duration_s for step in steps),
            micro_usd_per_s=self._micro_usd_per_s,
            model_micro_usd=sum(step.cost_micro_usd for step in steps),
        )
        for version in _shortest_first(order, steps):
            quality = self._quality(version)
            if refusal := _refusal(quality, order.min_quality):
                reason = reason or refusal
                continue
            found = await benefit(order, version.texts, meter, spent)
            if not found.is_negative:
                return _chosen(order, version, quality, reason, found)
            reason = reason or found.in_words
        return Chosen(version=as_asked(order), quality=UNCHANGED, reason=reason, net_benefit_micro_usd=None)

    def refusal(self, order: Order, version: Version) -> str:
        """Why this version's predicted quality is too low to go out; empty where it is not."""
        return "" if order.min_quality is None else _refusal(self._quality(version), order.min_quality)

    def is_used(self, order: Order, stage: str) -> bool:
        """Whether this lossless stage may run: without a floor only where its quality suffices for all callers."""
        is_good = self._priors.get(stage, UNCHANGED).score >= self._least_format_quality
        return is_good or order.min_quality is not None

    def is_enough(self, order: Order, before: Version, features: Mapping[str, float]) -> bool:
        """Whether this version may go out with one more choice of these features."""
        return not self.refusal(order, replace(before, choices=(*before.choices, features)))

    def _quality(self, version: Version) -> Quality:
        quality = UNCHANGED
        for name in sorted(version.rewritten_by):
            quality = quality.and_then(self._priors.get(name, UNCHANGED))
        for choice in version.choices:
            quality = quality.and_then(self._forecast.predict(choice))
        if version.is_summed_up:
            quality = quality.and_then(UNMEASURED)
        return quality


def _chosen(order: Order, version: Version, quality: Quality, reason: str, found: Benefit) -> Chosen:
    return Chosen(
        version=version,
        quality=quality,
        reason=reason,
        net_benefit_micro_usd=found.micro_usd if order.tariff.is_known else None,
    )


def _shortest_first(order: Order, steps: Sequence[Step]) -> Iterator[Version]:
    """The last version, the last without summaries, the last with all its pieces, what earlier turns became."""
    unsummed = [step.after for step in steps if step.loss is not Loss.ABSTRACTIVE]
    lossless = [step.after for step in steps if step.loss is Loss.LOSSLESS]
    seen: list[Version] = []
    for version in [*(step.after for step in steps[-1:]), *unsummed[-1:], *lossless[-1:], as_settled(order)]:
        if version not in seen and version.texts != order.original:
            yield version
        seen.append(version)


def _refusal(quality: Quality, floor: float | None) -> str:
    if floor is None or quality.score >= floor:
        return ""
    return f"predicted quality {quality.score:.3f} is below the floor {floor:.3f}"
