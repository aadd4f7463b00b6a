"""Continuous batching against naive static batching, in the conditions of Anyscale's benchmark at 1/8 of its lengths.

There: prompts of 512 tokens, output lengths exponential with mean 128 and at most 1,536, all requests at once, on
memory that holds the keys and values of 8 worst cases. Here: 64, 16 and 192, and a pool of 8 x 256 tokens for all. A
static batch is limited to what fits at its worst and lasts as long as its longest sequence.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator

from benchmarks.engine.contender import Failed
from benchmarks.engine.our_engine import OurEngine
from benchmarks.engine.prompts import make_prompts
from benchmarks.engine.race import STATIC_FP32, Peers
from benchmarks.engine.setup import Setup
from benchmarks.report import Claim, at_least, skipped

CLAIM = "continuous_batching"
BAR, KNOWN = 8.0, 23.0
REQUESTS, PROMPT_TOKENS, MEAN_DRAWN, MOST_DRAWN = 64, 64, 16, 192
STATIC_BATCH = 8
KV_TOKENS = STATIC_BATCH * (PROMPT_TOKENS + MOST_DRAWN)


def continuous_batching(setup: Setup, peers: Peers) -> Iterator[Claim]:
    """Time of the static batches over ours, same requests; against transformers' in fp32, and our own engine's."""
    lengths = drawn_lengths(8 if setup.is_smoke else REQUESTS)
    own: list[float] = []
    static: list[float] = []
    continuous: list[float] = []
    peer = peers.running.get(STATIC_FP32)
    with OurEngine(setup, kv_tokens=KV_TOKENS, max_sequences=32) as engine:
        for turn in range(setup.repetitions):
            ours, theirs, peers_share = (_prompts(setup, len(lengths), turn, use) for use in ("ours", "static", "peer"))
            continuous.append(engine.run(ours, lengths))
            own.append(_static_run(engine, theirs, lengths))
            if peer is not None:
                try:
                    static.append(float(peer.ask("run_static", peers_share, lengths, STATIC_BATCH)))
                except Failed as error:
                    peers.absent[STATIC_FP32], peer = str(error), None
        yield _claim(setup, engine, peers, lengths, continuous, own, static)


def drawn_lengths(count: int) -> list[int]:
    """Exponential, rounded up, capped; the same every time."""
    draw = random.Random("lengths")
    return [min(MOST_DRAWN, math.ceil(draw.expovariate(1 / MEAN_DRAWN))) for _ in range(count)]


def _prompts(setup: Setup, count: int, turn: int, use: str) -> list[list[int]]:
    return make_prompts(setup.model_dir, [PROMPT_TOKENS] * count, f"batching {use} {turn}")


def _static_run(engine: OurEngine, prompts: list[list[int]], lengths: list[int]) -> float:
    """Our own engine as a naive server would use it: a batch's every sequence draws as long as the longest."""
    took_s = 0.0
    for first in range(0, len(prompts), STATIC_BATCH):
        batch = prompts[first : first + STATIC_BATCH]
        took_s += engine.run(batch, [max(lengths[first : first + STATIC_BATCH])] * len(batch))
    return took_s


def _claim(
    setup: Setup,
    engine: OurEngine,
    peers: Peers,
    lengths: list[int],
    continuous: list[float],
    own: list[float],
    static: list[float],
) -> Claim:
    ours_s, own_s = statistics.median(continuous), statistics.median(own)
    detail = (
        f"{len(lengths)} requests, {sum(lengths)} tokens, pool of {KV_TOKENS}; continuous {ours_s:.1f} s "
        f"({min(continuous):.1f}-{max(continuous):.1f}), {engine.in_words}; our engine with static batches of "
        f"{STATIC_BATCH} {own_s:.1f} s: batching alone gives {own_s / ours_s:.1f} x"
    )
    if len(static) < setup.repetitions:
        return skipped(CLAIM, "x", f">= {BAR:g}", f"{STATIC_FP32} not measured; {detail}{peers.absent_in_words}")
    static_s = statistics.median(static)
    ratio = static_s / ours_s
    detail += (
        f"; {STATIC_FP32} {static_s:.1f} s ({min(static):.1f}-{max(static):.1f}); {KNOWN / ratio:.2g} x remain to 23 x"
    )
    return at_least(CLAIM, ratio, f"x static {STATIC_FP32}", BAR, detail)
