"""The client of a real engine of two ranks, and the ways in which a rank can be lost."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from meshkit.clock import SystemClock
from services.inference.engine.messages import Sampling, Stopping
from services.inference.engine.options import EngineOptions, as_arguments
from services.inference.engine_client import EngineClient
from services.inference.engine_port import SequenceSpec
from services.inference.engine_process import EngineProcess, spawn
from services.inference.supervisor import Patience
from tests.support.engine_process import CACHE_DIR
from tests.support.tiny_model import CONTEXT_TOKENS

# Engines that many tests kill one after the other come back at once; how long a back-off lasts is no rule of theirs.
PATIENCE = Patience(first_backoff_s=0.05, longest_backoff_s=0.4)
LONGEST_PROMPT = [9] * (CONTEXT_TOKENS - 1)


def launcher(model_dir: Path, all_reduce: str) -> Callable[[], Awaitable[EngineProcess]]:
    """Two ranks with one thread each."""

    def command(fd: int) -> list[str]:
        options = EngineOptions(
            fd=fd,
            model_dir=model_dir,
            tensor_parallel_size=2,
            threads=1,
            kv_tokens=64 * CONTEXT_TOKENS,
            all_reduce="gloo" if all_reduce == "gloo" else "auto",
            cache_dir=CACHE_DIR,
            parent_pid=os.getpid(),
        )
        return [sys.executable, "-m", "services.inference.engine", *as_arguments(options)]

    return lambda: spawn(command)


@asynccontextmanager
async def two_ranks(model_dir: Path, all_reduce: str) -> AsyncIterator[EngineClient]:
    """Started, and gone afterwards."""
    client = EngineClient(launcher(model_dir, all_reduce), SystemClock(), PATIENCE, most_sequences=400)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


def greedy(prompt_ids: list[int], max_tokens: int) -> SequenceSpec:
    return SequenceSpec(
        prompt_ids=prompt_ids, sampling=Sampling(temperature=0.0), stopping=Stopping(max_tokens=max_tokens)
    )


def kill(client: EngineClient, rank: int) -> None:
    os.kill(_pid(client, rank), signal.SIGKILL)


def stop(client: EngineClient, rank: int) -> None:
    os.kill(_pid(client, rank), signal.SIGSTOP)


def starve(client: EngineClient, rank: int) -> None:
    """Not a byte more for this rank, and prompts whose steps need some."""
    pid = _pid(client, rank)
    used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))
    for _ in range(8):
        client.open(greedy(LONGEST_PROMPT, 1))


FAULTS: Mapping[str, Callable[[EngineClient, int], None]] = {"killed": kill, "stopped": stop, "out of memory": starve}


def _pid(client: EngineClient, rank: int) -> int:
    assert client.facts is not None
    return client.facts.rank_pids[rank]
