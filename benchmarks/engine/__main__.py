"""`python -m benchmarks.engine`: what the engine does with a model, beside what a user would run instead.

Our engine and the peers (`--peers`) run in the same invocation, taking turns; each figure is the median of the
repetitions. Prompts are random tokens, drawing is greedy and never ends by itself. Rates count steps in which all
sequences draw. Without `--model` the packaged demo model is measured; the smallest size runs a tiny random one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks import report
from benchmarks.engine import batching, cancelling, footprint, prefix, quality, rpc, scaling, speed, trace
from benchmarks.engine.our_engine import OurEngine
from benchmarks.engine.race import peers_of
from benchmarks.engine.setup import Setup, add_arguments, make_setup
from benchmarks.engine.starting import start_to_ready
from benchmarks.report import Claim, Options

START = "start_to_ready"
BESIDE_PEERS = (*speed.CLAIMS, batching.CLAIM)
ALONE = (*quality.CLAIMS, prefix.CLAIM, cancelling.CLAIM, *trace.CLAIMS, scaling.CLAIM, rpc.CLAIM)
CLAIMS = (START, *BESIDE_PEERS, *ALONE, footprint.CLAIM)


def measure(options: Options) -> Iterator[Claim]:
    """Claims that share an engine or the peers come together; nothing is kept from one run to the next."""
    with tempfile.TemporaryDirectory() as scratch:
        setup = make_setup(options, Path(scratch))
        if _wants_any(options, (START, *BESIDE_PEERS, *ALONE)):
            with OurEngine(setup) as engine:
                yield from _on_one_engine(setup, options, engine)
        if options.wants(footprint.CLAIM):
            yield from footprint.kv_memory(setup)


def _on_one_engine(setup: Setup, options: Options, engine: OurEngine) -> Iterator[Claim]:
    if options.wants(START):
        yield from start_to_ready(setup, engine)
    if _wants_any(options, BESIDE_PEERS):
        with peers_of(setup, are_wanted=options.has_peers) as peers:
            yield from speed.speed(setup, options, engine, peers)
            if options.wants(batching.CLAIM):
                yield from batching.continuous_batching(setup, peers)
    if _wants_any(options, quality.CLAIMS):
        yield from (claim for claim in quality.int8_loss(setup, engine) if options.wants(claim.name))
    if options.wants(prefix.CLAIM):
        yield from prefix.shared_prefix(setup, engine)
    if options.wants(cancelling.CLAIM):
        yield from cancelling.cancel_to_free(setup, engine)
    if _wants_any(options, trace.CLAIMS):
        yield from (claim for claim in trace.under_trace(setup, options, engine) if options.wants(claim.name))
    if options.wants(scaling.CLAIM):
        yield from scaling.tensor_parallel(setup, engine)
    if options.wants(rpc.CLAIM):
        yield from rpc.rpc_overhead(setup, engine)


def _wants_any(options: Options, names: Iterable[str]) -> bool:
    return any(map(options.wants, names))


if __name__ == "__main__":
    report.run("engine", "The engine's figures, beside those of peers.", CLAIMS, measure, add_arguments)
