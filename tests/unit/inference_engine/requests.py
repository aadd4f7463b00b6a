"""Builders of engine requests, and a driver that runs them to their end without a process or a socket."""

from __future__ import annotations

from typing import Any

from services.inference.engine import draws
from services.inference.engine.blocks import BlockPool
from services.inference.engine.messages import AddSequence, PromptScored, Sampling, SequenceFailed, Stopping, TokenDrawn
from services.inference.engine.rows import Runner
from services.inference.engine.scheduler import Limits, Scheduler

GREEDY = Sampling(temperature=0.0)


def request(sequence_id: int, prompt_ids: list[int], **changes: Any) -> AddSequence:
    stopping = Stopping(
        max_tokens=changes.pop("max_tokens", 8),
        min_tokens=changes.pop("min_tokens", 0),
        stop_token_ids=changes.pop("stop_token_ids", ()),
    )
    sampling = changes.pop("sampling", GREEDY)
    return AddSequence(sequence_id=sequence_id, prompt_ids=prompt_ids, sampling=sampling, stopping=stopping, **changes)


def make_scheduler(
    *, blocks: int = 64, max_sequences: int = 8, step_tokens: int = 32, vocabulary_size: int = 400, **limits: Any
) -> Scheduler:
    return Scheduler(
        Limits(
            max_sequences=max_sequences,
            step_tokens=step_tokens,
            logit_rows=max_sequences + 16,
            vocabulary_size=vocabulary_size,
            **limits,
        ),
        BlockPool(blocks),
    )


class Transcript:
    """All events of a run, by sequence."""

    def __init__(self) -> None:
        self.tokens: dict[int, list[TokenDrawn]] = {}
        self.scored: dict[int, PromptScored] = {}
        self.failed: dict[int, SequenceFailed] = {}
        self.step_sizes: list[int] = []

    def ids(self, sequence_id: int) -> list[int]:
        return [token.token_id for token in self.tokens[sequence_id]]

    def take(self, outcome: draws.Outcome) -> None:
        for token in outcome.tokens:
            self.tokens.setdefault(token.sequence_id, []).append(token)
        for event in outcome.others:
            if isinstance(event, PromptScored):
                self.scored[event.sequence_id] = event
            else:
                self.failed[event.sequence_id] = event


def run_to_end(runner: Runner, requests: list[AddSequence], scheduler: Scheduler) -> Transcript:
    transcript = Transcript()
    for now, message in enumerate(requests):
        scheduler.add(message, seed=message.sampling.seed or 0, now=float(now))
    while run_step(runner, scheduler, transcript):
        pass
    return transcript


def run_step(runner: Runner, scheduler: Scheduler, transcript: Transcript) -> bool:
    """One step; False if there was nothing to do."""
    plan = scheduler.plan(100.0)
    if plan is None:
        return False
    transcript.step_sizes.append(plan.token_count)
    transcript.take(draws.apply(plan, runner.run(plan), scheduler, 101.0))
    return True
