"""From spawn to `Ready`, which comes after a real decode step on all ranks."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.engine.our_engine import OurEngine
from benchmarks.engine.setup import Setup
from benchmarks.report import Claim


def start_to_ready(setup: Setup, engine: OurEngine) -> Iterator[Claim]:
    """The start of the engine that serves the other claims is the first; the files are in the page cache after it."""
    starts = [engine.start_s]
    for _ in range(setup.repetitions - 1):
        with OurEngine(setup) as another:
            starts.append(another.start_s)
    listed = ", ".join(f"{start:.1f}" for start in starts)
    yield Claim(
        name="start_to_ready",
        value=statistics.median(starts),
        unit="s",
        bar="-",
        holds=None,
        detail=f"{engine.in_words}; runs {listed}",
    )
