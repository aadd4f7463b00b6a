"""Decode and prefill rates beside those of peers, in the same run and in turns."""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.engine.contender import Contender
from benchmarks.engine.our_engine import OurEngine
from benchmarks.engine.product_limit import product_limit
from benchmarks.engine.prompts import PROMPT_TOKENS, make_prompts
from benchmarks.engine.race import LLAMA_Q8, STATIC_INT8, Figures, Peers, in_words, median_of, race
from benchmarks.engine.setup import Setup
from benchmarks.report import Claim, Options, at_least, skipped

DRAWN_TOKENS = {1: 64, 8: 32, 32: 32}
DECODE_BARS = {1: 1.2, 8: 1.8, 32: 3.0}
PREFILL_BAR, LIMIT_BAR = 2.0, 0.85
PREFILLED_PROMPTS = 8
MOST = 32
STATIC_CLAIM, LIMIT_CLAIM = "decode_32_static_int8", "decode_32_product_limit"
CLAIMS = (*(f"decode_{count}" for count in DRAWN_TOKENS), STATIC_CLAIM, LIMIT_CLAIM, "prefill")


def speed(setup: Setup, options: Options, engine: OurEngine, peers: Peers) -> Iterator[Claim]:
    """Every claim about rates."""
    for count in DRAWN_TOKENS:
        names = {f"decode_{count}"} | ({STATIC_CLAIM, LIMIT_CLAIM} if count == MOST else set())
        if any(map(options.wants, names)):
            figures = decode_rates(setup, engine, peers, count)
            yield from _decode_claims(setup, options, engine, peers, count, figures)
    if options.wants("prefill"):
        figures = prefill_rates(setup, engine, peers)
        best = peers.best(figures)
        yield _beside("prefill", engine, peers, figures, best, PREFILL_BAR)


def decode_rates(setup: Setup, engine: OurEngine, peers: Peers, count: int) -> Figures:
    """Tokens per second of `count` sequences together, by contender."""
    prompts = make_prompts(setup.model_dir, [PROMPT_TOKENS] * count, f"decode {count}")
    drawn = 8 if setup.is_smoke else DRAWN_TOKENS[count]
    contenders: list[Contender] = [engine, *peers.running.values()]
    race(contenders, peers, 1, lambda contender: _warm(contender, prompts))
    return race(contenders, peers, setup.repetitions, lambda contender: contender.decode(drawn))


def prefill_rates(setup: Setup, engine: OurEngine, peers: Peers) -> Figures:
    """Prompt tokens per second; each repetition has prompts that no contender has seen."""
    lengths = [PROMPT_TOKENS] * PREFILLED_PROMPTS
    turns: dict[str, int] = {}

    def measure(contender: Contender) -> float:
        turns[contender.name] = turn = turns.get(contender.name, 0) + 1
        return contender.prefill(make_prompts(setup.model_dir, lengths, f"prefill {turn}"))

    contenders: list[Contender] = [engine, *peers.running.values()]
    race(contenders, peers, 1, measure)
    return race(contenders, peers, setup.repetitions, measure)


def _warm(contender: Contender, prompts: list[list[int]]) -> float:
    contender.hold(prompts)
    return contender.decode(4)


def _decode_claims(
    setup: Setup, options: Options, engine: OurEngine, peers: Peers, count: int, figures: Figures
) -> Iterator[Claim]:
    name = f"decode_{count}"
    if options.wants(name):
        rival = LLAMA_Q8 if count == 1 else peers.best(figures)
        yield _beside(name, engine, peers, figures, rival, DECODE_BARS[count])
    if count == MOST and options.wants(STATIC_CLAIM):
        yield _beside(STATIC_CLAIM, engine, peers, figures, STATIC_INT8, 1.0)
    if count == MOST and options.wants(LIMIT_CLAIM):
        ours = median_of(figures, engine.name)
        limit, ways = product_limit(setup, MOST)
        detail = f"{ours:.4g} of {limit:.4g} tokens/s; {ways}; {engine.in_words}"
        yield at_least(LIMIT_CLAIM, ours / limit, "of limit", LIMIT_BAR, detail)


def _beside(name: str, engine: OurEngine, peers: Peers, figures: Figures, rival: str | None, bar: float) -> Claim:
    """Our median over the rival's; without the rival the claim is skipped and our rate stands in the detail."""
    load = f"load {os.getloadavg()[0]:.1f}"
    detail = f"tokens/s: {in_words(figures)}; {engine.in_words}; {load}{peers.absent_in_words}"
    if rival is None or rival not in figures:
        return skipped(name, "x", f">= {bar:g}", f"{rival or 'every peer'} is absent; {detail}")
    ratio = median_of(figures, engine.name) / median_of(figures, rival)
    return at_least(name, ratio, f"x {rival}", bar, detail)
