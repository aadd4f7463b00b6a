"""What the second request with the same 1,000 first tokens waits for its first token."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.engine.our_engine import OurEngine
from benchmarks.engine.prompts import make_prompts
from benchmarks.engine.setup import Setup
from benchmarks.report import Claim, at_most

CLAIM = "shared_prefix_ttft"
BAR = 0.1
SHARED_TOKENS, OWN_TOKENS = 1000, 24


def shared_prefix(setup: Setup, engine: OurEngine) -> Iterator[Claim]:
    """One request after the other on an idle engine; each repetition has a prefix of its own."""
    shared_tokens = 256 if setup.is_smoke else SHARED_TOKENS
    first, second = [], []
    for turn in range(setup.repetitions):
        lengths = (shared_tokens, OWN_TOKENS, OWN_TOKENS)
        shared, one, other = make_prompts(setup.model_dir, lengths, f"prefix {turn}")
        first.append(engine.run([shared + one], [1]))
        second.append(engine.run([shared + other], [1]))
    ratios = [after / before for before, after in zip(first, second, strict=True)]
    detail = (
        f"{shared_tokens} shared and {OWN_TOKENS} own tokens; medians {statistics.median(first) * 1e3:.0f} ms, then "
        f"{statistics.median(second) * 1e3:.0f} ms; ratios {min(ratios):.3f}-{max(ratios):.3f}; {engine.in_words}"
    )
    yield at_most(CLAIM, statistics.median(ratios), "of the first", BAR, detail)
