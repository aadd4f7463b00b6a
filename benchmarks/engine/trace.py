"""Azure's conversation trace, scaled to this machine: how full the batch is, and for how much of the time it runs.

Lengths are divided by 8 (mean prompt 144, mean answer 26). First all requests are run at once, which gives the time
this machine needs for them; then they arrive one by one as in the trace, whose gaps are scaled so that the arrivals
span that same time: an offered load of 1, with the trace's bursts.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from benchmarks.engine.our_engine import OurEngine, finished_count
from benchmarks.engine.prompts import make_prompts
from benchmarks.engine.setup import Setup
from benchmarks.report import Claim, Options, at_least, skipped

FILE = Path("azure_llm_2023") / "conv.csv"
EFFICIENCY, UTILISATION = "batch_efficiency", "utilisation"
CLAIMS = (EFFICIENCY, UTILISATION)
EFFICIENCY_BAR, UTILISATION_BAR = 0.90, 0.85
REQUESTS, SCALE = 100, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request of the trace."""

    at_s: float
    prompt_tokens: int
    drawn_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One run of the trace: from the first arrival to the last token."""

    whole_s: float
    in_steps_s: float
    slot_count: int  # token slots that the model computed
    useful_count: int  # those that belonged to live sequences and had not been computed before


def under_trace(setup: Setup, options: Options, engine: OurEngine) -> Iterator[Claim]:
    """Both claims from the same runs."""
    if options.data is None or not (options.data / FILE).is_file():
        reason = f"no {FILE} (--data DIR)"
        yield skipped(EFFICIENCY, "of slots", f">= {EFFICIENCY_BAR:g}", reason)
        yield skipped(UTILISATION, "of time", f">= {UTILISATION_BAR:g}", reason)
        return
    arrivals = read_arrivals(options.data / FILE, 8 if setup.is_smoke else REQUESTS)
    needed_s = engine.run(_prompts(setup, arrivals, "calibration"), [one.drawn_tokens for one in arrivals])
    runs = [
        _replay(engine, arrivals, _prompts(setup, arrivals, f"turn {turn}"), needed_s)
        for turn in range(setup.repetitions)
    ]
    how = (
        f"{len(arrivals)} requests, lengths / {SCALE}, arriving over the {needed_s:.0f} s that they need at once; done "
        f"after {statistics.median(run.whole_s for run in runs):.0f} s; {engine.in_words}"
    )
    efficiencies = [run.useful_count / run.slot_count for run in runs]
    shares = [run.in_steps_s / run.whole_s for run in runs]
    yield _claim(EFFICIENCY, efficiencies, "of slots", EFFICIENCY_BAR, how)
    yield _claim(UTILISATION, shares, "of time", UTILISATION_BAR, how)


def read_arrivals(file: Path, count: int) -> list[Arrival]:
    """The first requests of the trace, with scaled lengths and seconds since the first."""
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(islice(csv.DictReader(stream), count))
    times = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in rows]
    return [
        Arrival(
            at_s=(at - times[0]).total_seconds(),
            prompt_tokens=max(1, int(row["ContextTokens"]) // SCALE),
            drawn_tokens=max(1, int(row["GeneratedTokens"]) // SCALE),
        )
        for at, row in zip(times, rows, strict=True)
    ]


def _prompts(setup: Setup, arrivals: Sequence[Arrival], turn: str) -> list[list[int]]:
    return make_prompts(setup.model_dir, [one.prompt_tokens for one in arrivals], f"trace {turn}")


def _claim(name: str, values: list[float], unit: str, bar: float, how: str) -> Claim:
    return at_least(name, statistics.median(values), unit, bar, f"runs {min(values):.3f}-{max(values):.3f}; {how}")


def _replay(engine: OurEngine, arrivals: Sequence[Arrival], prompts: Sequence[Sequence[int]], span_s: float) -> Replay:
    """Requests leave when the trace says, whether or not earlier ones have been answered.

    Each step tells a moving average of steps' times; the sum of these is the sum of the times.
    """
    pace = span_s / arrivals[-1].at_s
    began_at, sent, finished, in_steps_s = time.monotonic(), 0, 0, 0.0
    before = after = engine.load
    while finished < len(arrivals):
        now_s = time.monotonic() - began_at
        while sent < len(arrivals) and arrivals[sent].at_s * pace <= now_s:
            engine.add(prompts[sent], arrivals[sent].drawn_tokens)
            sent += 1
        until_next_s = arrivals[sent].at_s * pace - now_s if sent < len(arrivals) else 60.0
        event = engine.next_step_within(until_next_s)
        if event is not None:
            after = event.load
            in_steps_s += after.step_time_s
            finished += finished_count(event)
    return Replay(
        whole_s=time.monotonic() - began_at,
        in_steps_s=in_steps_s,
        slot_count=after.computed_slot_count - before.computed_slot_count,
        useful_count=after.useful_token_count - before.useful_token_count,
    )
