"""What a reader answers about payloads as they are and as the lossless stages send them.

Each payload is sent once for each stage that changes it or would, were it not for one before it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from benchmarks.compressor.answers import Reader
from benchmarks.compressor.lookups import Lookup
from benchmarks.compressor.selection_data import holds_answer
from meshkit.clock import SystemClock
from services.compressor.app import chooser, lossless_stages
from services.compressor.offload import Offload
from services.compressor.order import Order, Outcome
from services.compressor.pipeline import Pipeline
from services.compressor.prompt_text import Part

AT_ONCE = 16
"""Questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatTrial:
    """One question about one payload after some of the stages."""

    question: int
    rewritten_by: tuple[str, ...]
    """The stages that changed it, in the order in which they ran."""
    reduction: float
    """In the reader's tokens."""
    score: float
    """The predicted chance that the outcome is unchanged."""
    was_right: bool
    """With the payload as it was."""
    is_right: bool

    @property
    def is_unchanged(self) -> bool:
        return self.was_right == self.is_right


def format_trials(lookups: Iterator[Lookup], reader: Reader) -> Iterator[FormatTrial]:
    """Several questions at a time, since the reader is quicker so; a run that is cut has whole ones."""
    began_at, numbered = time.monotonic(), enumerate(lookups)
    while several := list(islice(numbered, AT_ONCE)):
        prompts = [f"{one.payload}\n\n{one.question} Answer with the value only." for _, one in several]
        sent = [_after_each_stage(prompt, reader) for prompt in prompts]
        reader.answers([*prompts, *(outcome.texts[0] for outcomes in sent for outcome in outcomes)])
        for (number, lookup), prompt, outcomes in zip(several, prompts, sent, strict=True):
            yield from _trials_of(number, lookup, prompt, outcomes, reader)
        took_s = time.monotonic() - began_at
        print(f"reader: {number + 1} questions about payloads, {took_s:.0f} s", file=sys.stderr, flush=True)


def _after_each_stage(prompt: str, reader: Reader) -> list[Outcome]:
    """With all stages, then without the last of those that changed something, and so on."""
    stages = list(lossless_stages())
    outcomes: list[Outcome] = []
    while True:
        pipeline = Pipeline(
            stages,
            offload=Offload(least_chars=10**9, concurrency=1),
            clock=SystemClock(),
            chooser=chooser(stages),
        )
        outcome = asyncio.run(pipeline.compress(Order(parts=(Part(role="user", text=prompt),)), reader))
        if not outcome.rewritten_by:
            return outcomes
        outcomes.append(outcome)
        stages.remove([stage for stage in stages if stage.name in outcome.rewritten_by][-1])


def _trials_of(
    number: int, lookup: Lookup, prompt: str, outcomes: list[Outcome], reader: Reader
) -> Iterator[FormatTrial]:
    whole, *short = reader.answers([prompt, *(outcome.texts[0] for outcome in outcomes)])
    size = reader.count_one(prompt)
    for outcome, answer in zip(outcomes, short, strict=True):
        yield FormatTrial(
            question=number,
            rewritten_by=tuple(one.name for one in lossless_stages() if one.name in outcome.rewritten_by),
            reduction=1 - reader.count_one(outcome.texts[0]) / size,
            score=outcome.quality.score,
            was_right=holds_answer(whole, [lookup.answer]),
            is_right=holds_answer(answer, [lookup.answer]),
        )
