"""`python -m benchmarks.engine`: time from spawn to Ready, and decode rate at 1, 8 and 16 sequences.

The packaged demo model in float32, greedy, prompts of 6 tokens, all sequences together, on as many ranks as the machine
has cores, up to two. A first look for the record: bars and peers come with the engine's own issue.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator

from benchmarks import report
from benchmarks.report import Claim, Options
from services.inference.engine.messages import AddSequence, Sampling, StepDone, Stopping
from services.inference.models.store import resolve
from tests.support.engine_process import CACHE_DIR, EngineUnderTest

MODEL = "packaged:gemma3-270m"
SEQUENCE_COUNTS = (1, 8, 16)
CLAIMS = ("start_to_ready", *(f"decode_{count}" for count in SEQUENCE_COUNTS))
DRAWN_TOKENS = 64
REPETITIONS = 3
PROMPT = [2, 818, 5279, 529, 7001, 563]
RANKS = min(2, os.cpu_count() or 1)


def measure(options: Options) -> Iterator[Claim]:
    """One engine a repetition, so that starts are measured as often as rates."""
    directory = resolve(MODEL, CACHE_DIR).directory
    drawn_tokens, repetitions = (8, 1) if options.is_smoke else (DRAWN_TOKENS, REPETITIONS)
    starts: list[float] = []
    rates: dict[int, list[float]] = {count: [] for count in SEQUENCE_COUNTS}
    for _ in range(repetitions):
        began_at = time.monotonic()
        with EngineUnderTest(directory, tensor_parallel_size=RANKS, kv_tokens=16384) as engine:
            engine.ready()
            starts.append(time.monotonic() - began_at)
            for count in SEQUENCE_COUNTS:
                rates[count].append(decode_rate(engine, count, drawn_tokens))
    if options.wants("start_to_ready"):
        yield _reported("start_to_ready", starts, "s")
    for count in SEQUENCE_COUNTS:
        if options.wants(f"decode_{count}"):
            yield _reported(f"decode_{count}", rates[count], "tokens/s")


def decode_rate(engine: EngineUnderTest, count: int, drawn_tokens: int) -> float:
    """Tokens per second of all sequences together, from the step that finished the last prompt on."""
    for sequence_id in range(count):
        stopping, sampling = Stopping(max_tokens=drawn_tokens), Sampling(temperature=0.0)
        engine.channel.write(
            AddSequence(sequence_id=sequence_id, prompt_ids=PROMPT, sampling=sampling, stopping=stopping)
        )
    drawn, since, finished = 0, time.monotonic(), 0
    while finished < count:
        event = engine.read()
        if isinstance(event, StepDone):
            drawn += len(event.tokens)
            finished += sum(token.finish is not None for token in event.tokens)
            if event.load.prefill_backlog_tokens or (event.load.running_count < count and not finished):
                drawn, since = 0, time.monotonic()
    return drawn / (time.monotonic() - since)


def _reported(name: str, values: list[float], unit: str) -> Claim:
    detail = f"{RANKS} ranks, float32; median of {', '.join(f'{value:.1f}' for value in values)}"
    return Claim(name=name, value=statistics.median(values), unit=unit, bar="-", holds=None, detail=detail)


if __name__ == "__main__":
    report.run("engine", "Time to ready and decode rate of the engine with the demo model.", CLAIMS, measure)
