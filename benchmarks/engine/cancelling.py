"""How many steps end between a cancel and the blocks being free again."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator

from benchmarks.engine.our_engine import OurEngine
from benchmarks.engine.prompts import PROMPT_TOKENS, make_prompts
from benchmarks.engine.setup import Setup
from benchmarks.report import Claim, at_most

CLAIM = "cancel_to_free"
COUNT, WATCHED_STEPS = 16, 4
BAR = 1


def cancel_to_free(setup: Setup, engine: OurEngine) -> Iterator[Claim]:
    """Sequences that draw together are cancelled one by one, each at a random moment within a step."""
    prompts = make_prompts(setup.model_dir, [PROMPT_TOKENS] * COUNT, "cancel")
    ids = [engine.add(prompt, 20 * COUNT) for prompt in prompts]
    event = engine.step_done()
    while event.load.running_count < COUNT or event.load.prefill_backlog_tokens:
        event = engine.step_done()
    draw, step_s = random.Random("cancel"), _step_seconds(engine)
    steps, waits = [], []
    for running, sequence_id in zip(range(COUNT, 0, -1), ids, strict=True):
        engine.step_done()
        _read_for(engine, draw.random() * step_s)
        sent_at = time.monotonic()
        engine.send_abort(sequence_id)
        steps.append(_steps_until(engine, running - 1))
        waits.append(time.monotonic() - sent_at)
    detail = (
        f"most of {COUNT} cancels; mean {statistics.mean(steps):.2f}; {statistics.median(waits) * 1e3:.0f} ms at the "
        f"median where a step of {COUNT} takes {step_s * 1e3:.0f} ms; {engine.in_words}"
    )
    yield at_most(CLAIM, max(steps), "steps", BAR, detail)


def _step_seconds(engine: OurEngine) -> float:
    began_at = time.monotonic()
    for _ in range(WATCHED_STEPS):
        engine.step_done()
    return (time.monotonic() - began_at) / WATCHED_STEPS


def _read_for(engine: OurEngine, seconds: float) -> None:
    """Let time pass without leaving steps unread, which would be counted as after the cancel."""
    deadline = time.monotonic() + seconds
    while engine.next_step_within(deadline - time.monotonic()) is not None:
        continue


def _steps_until(engine: OurEngine, running_count: int) -> int:
    """Steps that ended, up to the first word of so few running sequences; a word without tokens is no step."""
    steps = 0
    while True:
        event = engine.step_done()
        if event.load.running_count <= running_count:
            return steps
        steps += bool(event.tokens)
