"""Fifty prompts of mixed length that come at random between an engine's steps, and what plain generation draws."""

from __future__ import annotations

import random
from typing import Any

import torch

from services.inference.engine.messages import AddSequence
from services.inference.engine.rows import Runner
from services.inference.engine.scheduler import Scheduler
from tests.unit.inference_engine.requests import Transcript, request, run_step

LENGTHS = (1, 2, 5, 15, 16, 17, 33, 48, 90, 120)  # across block borders, chunks of a step and windows of 24
OF_EACH_LENGTH = 5
MOST_DRAWN = 12
_SHARED_TEXTS = 3


def fifty_requests(seed: int = 50) -> list[AddSequence]:
    """In random order; half of the prompts begin like others, some are urgent.

    With this seed the two likeliest tokens are nowhere nearer than 4e-4 in the tiny models; sums in another order make
    differences of 1e-5 at most.
    """
    dice = random.Random(seed)
    shared = [_tokens(dice, max(LENGTHS)) for _ in range(_SHARED_TEXTS)]
    requests = []
    for i, length in enumerate(dice.sample(LENGTHS * OF_EACH_LENGTH, len(LENGTHS) * OF_EACH_LENGTH)):
        begin = dice.choice(shared)[: dice.choice([0, length // 2, length])]
        prompt = begin + _tokens(dice, length - len(begin))
        drawn, priority = dice.randint(4, MOST_DRAWN), dice.choice([0, 0, 0, -8, 8])
        requests.append(request(i, prompt, max_tokens=drawn, priority=priority))
    return requests


def run_arrivals(runner: Runner, requests: list[AddSequence], scheduler: Scheduler, seed: int = 7) -> Transcript:
    """None to four of them come before each step."""
    dice, transcript, coming = random.Random(seed), Transcript(), list(reversed(requests))
    now, has_work = 0.0, True
    while coming or has_work:
        for _ in range(min(len(coming), dice.choice([0, 0, 1, 1, 2, 4]))):
            scheduler.add(coming.pop(), seed=0, now=now)
        has_work = run_step(runner, scheduler, transcript)
        now += 1.0
    return transcript


def plain_greedy(model: Any, requests: list[AddSequence]) -> dict[int, list[int]]:
    """Prompts of the same length together, so that nothing is padded; each cut to what its request asks for."""
    drawn: dict[int, list[int]] = {}
    for length in sorted({len(message.prompt_ids) for message in requests}):
        alike = [message for message in requests if len(message.prompt_ids) == length]
        prompts = torch.tensor([message.prompt_ids for message in alike])
        output = model.generate(prompts, max_new_tokens=MOST_DRAWN, do_sample=False, eos_token_id=None, pad_token_id=0)
        for message, tokens in zip(alike, output.tolist(), strict=True):
            drawn[message.sequence_id] = tokens[length : length + message.stopping.max_tokens]
    return drawn


def _tokens(dice: random.Random, count: int) -> list[int]:
    return [dice.randrange(8, 390) for _ in range(count)]
