"""Two ranks that run the fifty requests on one checkpoint after the other, on both paths: `draw` starts them.

As a program it is one of the ranks. They meet as an engine's ranks do; rank 0 schedules and sends plans to rank 1.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from services.inference.engine.options import EngineOptions, as_arguments, parse
from services.inference.engine.plan import StepPlan
from services.inference.engine.transport import BlockingChannel
from tests.support.engine_process import CACHE_DIR, PATIENCE_S, ROOT

_BLOCKS = 24

Drawn = dict[str, dict[int, list[int]]]


class _Next(msgspec.Struct, frozen=True, tag="next"):
    """In place of a plan: on to the next runner."""


def draw(folder: Path) -> Drawn:
    """What each sequence draws, by checkpoint in `folder` and path, as "qwen2 lean"."""
    processes = _start(folder)
    try:
        output, _ = processes[0].communicate(timeout=2 * PATIENCE_S)
        assert [process.wait(PATIENCE_S) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait(PATIENCE_S)
    return {name: {int(i): ids for i, ids in drawn.items()} for name, drawn in json.loads(output).items()}


def _start(folder: Path) -> list[subprocess.Popen[str]]:
    board, processes = os.memfd_create("logits", 0), []
    for rank, line in enumerate(socket.socketpair()):
        options = EngineOptions(
            fd=line.fileno(),
            model_dir=folder,
            tensor_parallel_size=2,
            threads=1,
            cache_dir=CACHE_DIR,
            rank=rank,
            board_fd=board,
            rendezvous=str(folder.with_suffix(".meet")),
        )
        command = [sys.executable, "-m", __name__, *as_arguments(options)]
        passed = [line.fileno(), board]
        processes.append(subprocess.Popen(command, pass_fds=passed, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        line.close()
    os.close(board)
    return processes


class _Leading:
    def __init__(self, runner: Any, line: BlockingChannel[Any, Any]) -> None:
        self._runner, self._line = runner, line

    def run(self, plan: StepPlan) -> Any:
        self._line.write(plan)
        return self._runner.run(plan)


def _main(options: EngineOptions) -> None:
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print
    from services.inference.engine import distributed
    from services.inference.engine.rank import prepare

    line = BlockingChannel[Any, Any](socket.socket(fileno=options.fd), StepPlan | _Next)
    prepare(options)
    distributed.join(options, "gloo")
    drawn = {}
    for name, runner in _runners(options):
        if options.rank == 0:
            drawn[name] = _lead(_Leading(runner, line))
            line.write(_Next())
        else:
            _follow(runner, line)
    json.dump(drawn, results)
    results.close()


def _runners(options: EngineOptions) -> Iterator[tuple[str, Any]]:
    import torch

    from services.inference.engine import distributed
    from services.inference.engine.kernels.build import build
    from services.inference.engine.kernels.native import Kernels
    from services.inference.engine.kv_cache import KvCache
    from services.inference.engine.lean.adopt import adopt
    from services.inference.engine.lean.runner import LeanRunner
    from services.inference.engine.model_runner import ModelRunner
    from tests.support.tiny_model import CONTEXT_TOKENS

    kernels = Kernels(build(CACHE_DIR), 1)
    for checkpoint in sorted(options.model_dir.iterdir()):
        model, board = _share(checkpoint, options)
        yield f"{checkpoint.name} stock", ModelRunner(model, KvCache(_BLOCKS), torch.device("cpu"), board)
        lean = adopt(model, kernels, distributed.all_reduce, position_count=CONTEXT_TOKENS)
        yield f"{checkpoint.name} lean", LeanRunner(lean, _BLOCKS, board)


def _share(checkpoint: Path, options: EngineOptions) -> tuple[Any, Any]:
    """This rank's part of the model, and the board that it shares with the other."""
    import torch

    from services.inference.engine import distributed
    from services.inference.engine.loading import load_whole_model, shard
    from services.inference.engine.vocabulary import board_bytes, open_board

    model: Any = load_whole_model(checkpoint, torch.float32)
    vocabulary_size = model.get_output_embeddings().weight.shape[0]
    os.ftruncate(options.board_fd, board_bytes(options.logit_rows, vocabulary_size, 2))
    fence = distributed.make_fence(torch.device("cpu"))
    board = open_board(options.board_fd, options.logit_rows, vocabulary_size, options.rank, 2, fence)
    return shard(model, torch.float32, options.rank, 2), board


def _lead(runner: _Leading) -> dict[int, list[int]]:
    """With larger steps than one rank alone: what costs time here is how often the ranks wait for each other."""
    from tests.integration.inference_engine.arrivals import fifty_requests, run_arrivals
    from tests.unit.inference_engine.requests import make_scheduler

    scheduler = make_scheduler(blocks=_BLOCKS, max_sequences=16, step_tokens=64)
    requests = fifty_requests()
    transcript = run_arrivals(runner, requests, scheduler)
    load = scheduler.load()
    assert load.preemption_count > 0 and load.cached_prompt_token_count >= 300
    return {message.sequence_id: transcript.ids(message.sequence_id) for message in requests}


def _follow(runner: Any, line: BlockingChannel[Any, Any]) -> None:
    while isinstance(plan := line.read(), StepPlan):
        runner.run(plan)


if __name__ == "__main__":
    _main(parse(sys.argv[1:]))
