"""`python -m tests.support.engine_speed [SOURCE]`: time to Ready and decode rate at size 2, for docs/engine.md.

A quick look, not a benchmark: one run, greedy, prompts of 6 tokens, 64 tokens drawn.
"""

from __future__ import annotations

import sys
import time

from services.inference.engine.messages import AddSequence, Sampling, StepDone, Stopping
from services.inference.models.store import resolve
from tests.support.engine_process import CACHE_DIR, EngineUnderTest

DRAWN = 64
PROMPT = [2, 818, 5279, 529, 7001, 563]


def main(source: str) -> None:
    directory = resolve(source, CACHE_DIR).directory
    began = time.monotonic()
    with EngineUnderTest(directory, tensor_parallel_size=2, kv_tokens=16384) as engine:
        engine.ready()
        print(f"ready after {time.monotonic() - began:.1f} s")
        for count in (1, 8, 16):
            print(f"{count} sequences: {decode_rate(engine, count):.1f} tokens/s")


def decode_rate(engine: EngineUnderTest, count: int) -> float:
    """Tokens per second of all sequences together, from the step that finished the last prompt on."""
    for sequence_id in range(count):
        stopping, sampling = Stopping(max_tokens=DRAWN), Sampling(temperature=0.0)
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


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "packaged:gemma3-270m")
