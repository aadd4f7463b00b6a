"""Our engine, driven over its socket as the RPC process drives it. Times are taken at the caller's end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.engine.contender import Prompts
from benchmarks.engine.setup import Setup
from services.inference.engine.messages import (
    Abort,
    AddSequence,
    Load,
    PromptScored,
    Ready,
    Sampling,
    StepDone,
    Stopping,
)
from tests.support.engine_process import EngineStopped, EngineUnderTest

KV_TOKENS = 16384
MAX_SEQUENCES = 64


class OurEngine:
    """A context manager: ready when entered, gone when left. `changes`: fields of EngineOptions."""

    name = "this engine"

    def __init__(self, setup: Setup, environment: Mapping[str, str] | None = None, **changes: Any) -> None:
        fields = {"kv_tokens": KV_TOKENS, "max_sequences": MAX_SEQUENCES, **setup.engine, **changes}
        self._fields = fields
        self._began_at = time.monotonic()
        self._process = EngineUnderTest(setup.model_dir, environment, **fields)
        self._prompts: Prompts = []
        self._next_id = 0
        self.load = Load()  # as last told
        self.start_s = 0.0

    def __enter__(self) -> OurEngine:
        try:
            self.ready: Ready = self._process.ready()
        except BaseException:
            self._process.__exit__()
            raise
        self.start_s = time.monotonic() - self._began_at
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.__exit__(*exception)

    @property
    def in_words(self) -> str:
        """How it runs, for the table."""
        kind = self._fields["quantization"]
        numbers = self._fields["dtype"] if kind == "none" else kind
        ranks = f"{self._fields['tensor_parallel_size']} x {self._fields['threads']} threads"
        return f"{ranks}, {numbers}, {self.ready.path} path, all-reduce {self.ready.all_reduce}"

    def hold(self, prompts: Prompts) -> None:
        """Nothing to do ahead: `decode` waits until all prompts are in the cache, and counts from there."""
        self._prompts = prompts

    def decode(self, drawn: int) -> float:
        """Counts only steps in which all sequences draw; they are given more to draw than is counted."""
        count = len(self._prompts)
        ids = [self.add(prompt, drawn + 2 * count + 16) for prompt in self._prompts]
        event = self.step_done()
        while event.load.running_count < count or event.load.prefill_backlog_tokens:
            event = self.step_done()
        began_at, counted = time.monotonic(), 0
        while counted < drawn * count:
            counted += len(self.step_done().tokens)
        took_s = time.monotonic() - began_at
        self.abort(ids)
        return counted / took_s

    def prefill(self, prompts: Prompts) -> float:
        took_s = self.run(prompts, [1] * len(prompts))
        return sum(len(prompt) for prompt in prompts) / took_s

    def run(self, prompts: Prompts, lengths: Sequence[int]) -> float:
        """Seconds from the first prompt sent, all at once, to the last token of the last sequence."""
        began_at = time.monotonic()
        for prompt, length in zip(prompts, lengths, strict=True):
            self.add(prompt, length)
        finished = 0
        while finished < len(prompts):
            finished += finished_count(self.step_done())
        return time.monotonic() - began_at

    def score(self, prompt: Sequence[int]) -> tuple[list[float], list[int]]:
        """Of each token but the first: its log-probability, and the likeliest token in its place."""
        self.add(prompt, 1, prompt_logprobs=1)
        event = self._process.read()
        while not isinstance(event, PromptScored):
            event = self._process.read()
        while not finished_count(self.step_done()):
            pass
        return [drawn.logprob for drawn in event.drawn], [top[0].token_id for top in event.top]

    def add(self, prompt: Sequence[int], max_tokens: int, *, prompt_logprobs: int | None = None) -> int:
        """Send a sequence; gives its id."""
        self._next_id += 1
        stopping, sampling = Stopping(max_tokens=max_tokens), Sampling(temperature=0.0)
        message = AddSequence(
            sequence_id=self._next_id,
            prompt_ids=list(prompt),
            sampling=sampling,
            stopping=stopping,
            prompt_logprobs=prompt_logprobs,
        )
        self._process.channel.write(message)
        return self._next_id

    def send_abort(self, sequence_id: int) -> None:
        self._process.channel.write(Abort(sequence_id=sequence_id))

    def abort(self, ids: Iterable[int]) -> None:
        """End these and wait until nothing runs."""
        for sequence_id in ids:
            self.send_abort(sequence_id)
        while True:
            load = self.step_done().load
            if load.running_count == 0 and load.waiting_count == 0:
                return

    def step_done(self) -> StepDone:
        """The next step; whatever else the engine says is passed over. Raises EngineStopped."""
        while True:
            event = self._process.read()
            if isinstance(event, StepDone):
                self.load = event.load
                return event

    def next_step_within(self, timeout_s: float) -> StepDone | None:
        """The next step, or None if none is told in that time."""
        deadline = time.monotonic() + timeout_s
        while self._process.channel.is_readable(max(0.0, deadline - time.monotonic())):
            event = self._process.read()
            if isinstance(event, StepDone):
                self.load = event.load
                return event
        return None


def finished_count(event: StepDone) -> int:
    """How many sequences ended in this step."""
    return sum(token.finish is not None for token in event.tokens)


__all__ = ["EngineStopped", "OurEngine", "finished_count"]
