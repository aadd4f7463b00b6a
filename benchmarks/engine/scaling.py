"""Two ranks of one thread against one: the same engine, the same work, twice the cores."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.engine.our_engine import OurEngine
from benchmarks.engine.prompts import PROMPT_TOKENS, make_prompts
from benchmarks.engine.setup import Setup
from benchmarks.report import Claim, at_least, skipped

CLAIM = "tensor_parallel"
BAR = 1.7
COUNTS = {32: 32, 8: 64, 1: 64}
CLAIMED = 32
PREFILLED_PROMPTS = 8


def tensor_parallel(setup: Setup, engine: OurEngine) -> Iterator[Claim]:
    """Decode rates at 32 sequences make the claim; the others and prefill stand beside it."""
    if setup.cores < 2 or (setup.engine["tensor_parallel_size"], setup.engine["threads"]) != (2, 1):
        yield skipped(CLAIM, "x", f">= {BAR:g}", "needs two cores, --ranks 2 and --threads 1")
        return
    single: dict[str, list[float]] = {}
    double: dict[str, list[float]] = {}
    with OurEngine(setup, tensor_parallel_size=1) as one:
        for turn in range(setup.repetitions):
            _measure(setup, one, single, turn)
            _measure(setup, engine, double, turn)
    ratios = {name: statistics.median(double[name]) / statistics.median(single[name]) for name in single}
    listed = "; ".join(
        f"{name} {statistics.median(single[name]):.4g} -> {statistics.median(double[name]):.4g} ({ratio:.2f} x)"
        for name, ratio in ratios.items()
    )
    yield at_least(
        CLAIM, ratios[_decode(CLAIMED)], "x", BAR, f"tokens/s of 1 x 1 -> 2 x 1: {listed}; {engine.in_words}"
    )


def _measure(setup: Setup, engine: OurEngine, rates: dict[str, list[float]], turn: int) -> None:
    for count, drawn in COUNTS.items():
        engine.hold(make_prompts(setup.model_dir, [PROMPT_TOKENS] * count, f"scaling {count}"))
        rates.setdefault(_decode(count), []).append(engine.decode(8 if setup.is_smoke else drawn))
    prompts = make_prompts(setup.model_dir, [PROMPT_TOKENS] * PREFILLED_PROMPTS, f"scaling prefill {turn}")
    rates.setdefault("prefill", []).append(engine.prefill(prompts))


def _decode(count: int) -> str:
    return f"decode {count}"
