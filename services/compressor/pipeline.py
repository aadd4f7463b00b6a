"""The order of stages over one prompt, which of their results are kept, and what is told about it.

A stage's result is kept only where the tokens of the whole prompt become fewer; otherwise the next stage sees what the
stage before left. Text up to the frozen prefix, and texts of roles that a stage does not name, never change, whatever
comes before or after them: what a turn became stays the same as the conversation grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshkit.clock import Clock
from services.compressor.offload import Offload
from services.compressor.prompt_text import Part, frozen_chars, has_same_head
from services.compressor.shield import shield
from services.compressor.stages.stage import UNCHANGED, Loss, Quality, Stage
from services.compressor.token_counter import CountUnavailable, TokenCounter, estimated_tokens

VERSION = "lossless-2"
"""Rises whenever the same prompt would be compressed otherwise; part of the response cache's key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to compress, and within which bounds."""

    parts: tuple[Part, ...]
    protect: tuple[str, ...] = ()
    frozen_bytes: int = 0
    target_ratio: float | None = None
    min_quality: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """A stage's entry in the ledger."""

    stage: str
    loss: Loss
    tokens_before: int
    tokens_after: int
    duration_s: float
    segment_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The texts to send, in the order of the parts, and the account."""

    texts: tuple[str, ...]
    original_tokens: int
    compressed_tokens: int
    quality: Quality = UNCHANGED
    is_prefix_kept: bool = True
    stages: tuple[StageReport, ...] = ()
    reason_original_kept: str = ""
    is_estimate: bool = False

    @property
    def token_reduction(self) -> float:
        """1 - compressed / original; 0..1."""
        return 1.0 - self.compressed_tokens / self.original_tokens if self.original_tokens else 0.0


class Pipeline:
    """Runs the stages. Large texts are rewritten off the event loop."""

    def __init__(self, stages: Sequence[Stage], *, offload: Offload, clock: Clock) -> None:
        self.stages = tuple(stages)
        self._offload = offload
        self._clock = clock

    async def compress(self, order: Order, counter: TokenCounter | None) -> Outcome:
        """The shorter prompt, or the original with the reason. Without a counter that answers, counts are estimates."""
        if counter is not None:
            try:
                return _within_floor(order, await self._run(order, _Meter(counter)))
            except CountUnavailable:
                pass
        return _within_floor(order, await self._run(order, _Meter(None)))

    async def _run(self, order: Order, meter: _Meter) -> Outcome:
        original = tuple(part.text for part in order.parts)
        steps: list[_Step] = []
        texts = original
        for stage in self.stages:
            steps.append(await self._step(stage, order, texts, meter))
            texts = steps[-1].after
            if texts != original and await _is_target_met(order, original, texts, meter):
                break
        if not meter.has_counted:
            # Nothing changed: the engine will count this very text, and counting it here would delay its first token.
            meter = _Meter(None)
        return await _outcome(order, steps, meter)

    async def _step(self, stage: Stage, order: Order, before: tuple[str, ...], meter: _Meter) -> _Step:
        """Run one stage and keep what it made only where that has fewer tokens."""
        started_at = self._clock.now()
        size = sum(len(text) for text in before)
        after, segment_count = await self._offload.run(lambda: _rewritten(stage, order, before), size=size)
        duration_s = self._clock.now() - started_at
        if not segment_count or await meter.count(after) >= await meter.count(before):
            after, segment_count = before, 0
        return _Step(stage=stage, before=before, after=after, duration_s=duration_s, segment_count=segment_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What one stage did."""

    stage: Stage
    before: tuple[str, ...]
    after: tuple[str, ...]
    duration_s: float
    segment_count: int


class _Meter:
    """Counts each version of the prompt once; without a counter it estimates."""

    def __init__(self, counter: TokenCounter | None) -> None:
        self._counter = counter
        self._counts: dict[tuple[str, ...], int] = {}
        self.is_estimate = counter is None

    @property
    def has_counted(self) -> bool:
        return bool(self._counts)

    async def count(self, texts: tuple[str, ...]) -> int:
        if texts not in self._counts:
            self._counts[texts] = await self._counter.count(texts) if self._counter else estimated_tokens(texts)
        return self._counts[texts]


def _rewritten(stage: Stage, order: Order, texts: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """Every part's text after the stage, and the number of segments rewritten."""
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


async def _is_target_met(order: Order, original: tuple[str, ...], texts: tuple[str, ...], meter: _Meter) -> bool:
    if order.target_ratio is None:
        return False
    return await meter.count(texts) <= order.target_ratio * await meter.count(original)


async def _outcome(order: Order, steps: Sequence[_Step], meter: _Meter) -> Outcome:
    original, texts = tuple(part.text for part in order.parts), steps[-1].after
    quality = UNCHANGED
    for step in steps:
        if step.segment_count:
            quality = quality.and_then(step.stage.quality)
    return Outcome(
        texts=texts,
        original_tokens=await meter.count(original),
        compressed_tokens=await meter.count(texts),
        quality=quality,
        is_prefix_kept=has_same_head(original, texts, order.frozen_bytes),
        stages=tuple([await _report(step, meter) for step in steps]),
        reason_original_kept="no stage makes it shorter" if texts == original else "",
        is_estimate=meter.is_estimate,
    )


async def _report(step: _Step, meter: _Meter) -> StageReport:
    return StageReport(
        stage=step.stage.name,
        loss=step.stage.loss,
        tokens_before=await meter.count(step.before),
        tokens_after=await meter.count(step.after),
        duration_s=step.duration_s,
        segment_count=step.segment_count,
    )


def _within_floor(order: Order, outcome: Outcome) -> Outcome:
    """The outcome, or the original where its predicted quality is below the caller's floor."""
    if order.min_quality is None or outcome.quality.score >= order.min_quality:
        return outcome
    return Outcome(
        texts=tuple(part.text for part in order.parts),
        original_tokens=outcome.original_tokens,
        compressed_tokens=outcome.original_tokens,
        stages=outcome.stages,
        reason_original_kept=(
            f"predicted quality {outcome.quality.score:.3f} is below the floor {order.min_quality:.3f}"
        ),
        is_estimate=outcome.is_estimate,
    )
