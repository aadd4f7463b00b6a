"""Engines for tests: the echo engine, and the client of a fake engine process."""

import sys
from collections.abc import Awaitable, Callable

from meshkit.clock import Clock, SystemClock
from services.inference.byte_tokenizer import END_TOKEN_ID
from services.inference.echo_engine import EchoEngine
from services.inference.engine.messages import Sampling, Stopping
from services.inference.engine_client import EngineClient
from services.inference.engine_port import SequenceSpec, SequenceStream
from services.inference.engine_process import EngineProcess, spawn
from services.inference.supervisor import Patience

MOST_SEQUENCES = 6
PATIENCE = Patience(
    start_timeout_s=20.0,
    silence_s=1.5,
    longest_step_s=10.0,
    shutdown_grace_s=2.0,
    first_backoff_s=0.05,
    longest_backoff_s=0.4,
)


def fake_process(*starts: str) -> Callable[[], Awaitable[EngineProcess]]:
    """A launcher of tests.support.fake_engine; each launch takes the next of `starts`, the last one for ever."""
    wanted = list(starts or ["ready"])

    async def launch() -> EngineProcess:
        start = wanted.pop(0) if len(wanted) > 1 else wanted[0]
        return await spawn(lambda fd: [sys.executable, "-m", "tests.support.fake_engine", str(fd), start])

    return launch


def fake_client(*starts: str, patience: Patience = PATIENCE, requeue_s: float = 0.0) -> EngineClient:
    return EngineClient(
        fake_process(*starts), SystemClock(), patience, most_sequences=MOST_SEQUENCES, requeue_s=requeue_s
    )


def echo(clock: Clock | None = None, tokens_per_s: float = 0.0) -> EchoEngine:
    return EchoEngine(
        clock or SystemClock(),
        vocabulary_size=END_TOKEN_ID + 1,
        eos_token_id=END_TOKEN_ID,
        context_tokens=4096,
        tokens_per_s=tokens_per_s,
        most_sequences=MOST_SEQUENCES,
    )


def spec(*prompt_ids: int, max_tokens: int = 100, ends: bool = True, logprobs: int | None = None) -> SequenceSpec:
    return SequenceSpec(
        prompt_ids=list(prompt_ids),
        sampling=Sampling(),
        stopping=Stopping(max_tokens=max_tokens, stop_token_ids=(END_TOKEN_ID,) if ends else ()),
        logprobs=logprobs,
    )


async def drain(stream: SequenceStream) -> tuple[list[int], str | None]:
    """All token ids of a stream and why it ended."""
    ids: list[int] = []
    while True:
        event = await stream.next_event()
        ids.append(event.token_id)  # type: ignore[union-attr]
        if event.finish is not None:  # type: ignore[union-attr]
            return ids, event.finish  # type: ignore[union-attr]
