"""The int8 matrix-product limit: rate of a step that did nothing but this model's matrix products.

Measured in processes of their own as the engine would run: one of all cores, and one a core with a share of each
product; with each kernel that there is. The best of these is the limit. Each layer has weights of its own, so that they
come from memory as they do in a step.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from benchmarks.engine.product_shapes import Product, products_of
from benchmarks.engine.setup import Setup
from tests.support.engine_process import CACHE_DIR

ROOT = Path(__file__).parents[2]
ROUNDS = 5


def product_limit(setup: Setup, rows: int) -> tuple[float, str]:
    """Tokens per second at `rows` sequences, and every way that was measured."""
    ways = sorted({(1, setup.cores), (setup.cores, 1)})
    rates: dict[str, float] = {}
    for shares, threads in ways:
        products = products_of(setup.model_dir, shares)
        for kernel, step_s in _step_times(products, rows, shares, threads).items():
            rates[f"{kernel} {shares} x {threads} threads"] = rows / step_s
    listed = "; ".join(f"{way} {rate:.4g}" for way, rate in rates.items())
    return max(rates.values()), f"products alone: {listed}"


def _step_times(products: Sequence[Product], rows: int, shares: int, threads: int) -> dict[str, float]:
    """Seconds of one step by kernel: the slowest share, the best of the rounds."""
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(products, rows, threads)) for _ in range(shares)]
        times: dict[str, list[float]] = {}
        for kernel in _from_all(workers)[0]:
            times[kernel] = [max(_ask_all(workers, kernel)) for _ in range(ROUNDS)]
    return {kernel: min(rounds) for kernel, rounds in times.items()}


Worker = tuple[IO[str], IO[str]]


@contextmanager
def _worker(products: Sequence[Product], rows: int, threads: int) -> Iterator[Worker]:
    plan = {"products": products, "rows": rows, "threads": threads, "cache_dir": str(CACHE_DIR)}
    command = [sys.executable, "-m", "benchmarks.engine.product_worker", json.dumps(plan)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdin, process.stdout
        finally:
            process.kill()


def _ask_all(workers: Sequence[Worker], kernel: str) -> list[float]:
    for asked, _ in workers:
        asked.write(kernel + "\n")
        asked.flush()
    return _from_all(workers)


def _from_all(workers: Sequence[Worker]) -> list[Any]:
    lines = [answered.readline() for _, answered in workers]
    if not all(lines):
        raise RuntimeError("a process that measures products has ended; its error stands above")
    return [json.loads(line) for line in lines]
