"""Who runs in a race: our engine and the peers that this machine has, each measured in turn, and why others don't."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks.engine.contender import Contender, Failed
from benchmarks.engine.peers.process import PeerProcess
from benchmarks.engine.setup import Setup

LLAMA_Q8, LLAMA_Q4 = "llama.cpp Q8_0", "llama.cpp Q4_0"
STATIC_FP32, STATIC_INT8 = "transformers fp32", "transformers int8"
VLLM = "vLLM fp32"
RIVALS = (LLAMA_Q8, LLAMA_Q4, VLLM, STATIC_FP32)  # what "the best peer" is chosen from
Figures = Mapping[str, list[float]]


@dataclass(slots=True)
class Peers:
    """Those that run, and why the others don't."""

    running: dict[str, PeerProcess] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def absent_in_words(self) -> str:
        reasons: dict[str, list[str]] = {}
        for name, why in self.absent.items():
            reasons.setdefault(why, []).append(name)
        return "".join(f"; skipped ({why}): {', '.join(names)}" for why, names in reasons.items())

    def best(self, figures: Figures, among: tuple[str, ...] = RIVALS) -> str | None:
        """Whose median is highest; None if none of them was measured."""
        return max((name for name in among if name in figures), key=lambda name: median_of(figures, name), default=None)


@contextmanager
def peers_of(setup: Setup, *, are_wanted: bool) -> Iterator[Peers]:
    """Starts every peer that there is an environment for, one after the other; none if not wanted."""
    peers = Peers()
    with ExitStack() as stack:
        for name, reason_or_peer in _entries(setup, are_wanted=are_wanted):
            if isinstance(reason_or_peer, str):
                peers.absent[name] = reason_or_peer
                continue
            try:
                peers.running[name] = stack.enter_context(reason_or_peer)
            except Failed as error:
                peers.absent[name] = str(error)
        yield peers


def race(
    contenders: list[Contender], peers: Peers, repetitions: int, measure: Callable[[Contender], float]
) -> dict[str, list[float]]:
    """Each contender's figures by its name; they take turns. A peer that fails leaves the race and is absent then."""
    figures: dict[str, list[float]] = {}
    for _ in range(repetitions):
        for contender in contenders:
            if contender.name in peers.absent:
                continue
            try:
                figures.setdefault(contender.name, []).append(measure(contender))
            except Failed as error:
                peers.absent[contender.name] = str(error)
                figures.pop(contender.name, None)
    return figures


def median_of(figures: Figures, name: str) -> float:
    return statistics.median(figures[name])


def in_words(figures: Figures) -> str:
    """Every contender's median and range, in tokens per second."""
    return "; ".join(
        f"{name} {statistics.median(values):.4g} ({min(values):.4g}-{max(values):.4g})"
        for name, values in figures.items()
    )


def _entries(setup: Setup, *, are_wanted: bool) -> Iterator[tuple[str, PeerProcess | str]]:
    """Every peer by name, or why it can't run."""
    model, gguf, threads = str(setup.model_dir.absolute()), setup.gguf, str(setup.cores)
    if not are_wanted:
        yield from ((name, "no --peers") for name in (*RIVALS, STATIC_INT8))
        return
    for name, numbers in ((STATIC_FP32, "fp32"), (STATIC_INT8, "int8")):
        yield name, PeerProcess(name, setup.transformers_python, "static_transformers", [model, numbers, threads])
    for name, numbers in ((LLAMA_Q8, "Q8_0"), (LLAMA_Q4, "Q4_0")):
        if setup.llama_cpp_python is None or gguf is None:
            yield name, "no environment or no GGUF file named"
        else:
            arguments = [str(gguf.absolute()), numbers, threads]
            yield name, PeerProcess(name, setup.llama_cpp_python, "llama_cpp", arguments)
    if setup.vllm_python is None:
        yield VLLM, "no environment named"
    else:
        yield VLLM, PeerProcess(VLLM, setup.vllm_python, "vllm_cpu", [model, threads])
