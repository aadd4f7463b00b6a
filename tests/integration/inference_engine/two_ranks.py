"""Two ranks that run the fifty requests on one checkpoint after the other, on both paths: `start` them, `drawn` tells.

As a program it is one of the ranks. They meet as an engine's ranks do; rank 0 schedules and sends plans to rank 1.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.inference.engine.plan import Join, StepPlan
from services.inference.engine.transport import BlockingChannel
from tests.support.engine_process import CACHE_DIR, PATIENCE_S, ROOT

_NEXT = Join(all_reduce="")  # in place of a plan: on to the next model
_LOGIT_ROWS, _BLOCKS = 96, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Two running processes."""

    processes: list[subprocess.Popen[str]]

    def drawn(self) -> dict[str, dict[int, list[int]]]:
        """By checkpoint and path ("/tmp/qwen2 lean"), what each sequence drew."""
        output, _ = self.processes[0].communicate(timeout=2 * PATIENCE_S)
        assert self.processes[0].returncode == 0 and self.processes[1].wait(PATIENCE_S) == 0
        return {name: {int(i): ids for i, ids in drawn.items()} for name, drawn in json.loads(output).items()}

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(PATIENCE_S)


def start(checkpoints: list[Path], kernels: Path | None, folder: Path) -> Ranks:
    """`folder` is where they meet."""
    lines, board = socket.socketpair(), os.memfd_create("logits", 0)
    processes = []
    for rank, line in enumerate(lines):
        arguments = [rank, line.fileno(), board, folder / "meet", kernels or "", *checkpoints]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", __name__, *map(str, arguments)],
                pass_fds=[line.fileno(), board],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        line.close()
    os.close(board)
    return Ranks(processes=processes)


class _Leading:
    def __init__(self, runner: Any, line: BlockingChannel[Any, Any]) -> None:
        self._runner, self._line = runner, line

    def run(self, plan: StepPlan) -> Any:
        self._line.write(plan)
        return self._runner.run(plan)


def _main(rank: int, line_fd: int, board_fd: int, meeting: str, kernels: str, *checkpoints: str) -> None:
    from services.inference.engine import distributed

    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print
    line = BlockingChannel[Any, Any](socket.socket(fileno=line_fd), StepPlan | Join)
    distributed.prepare_environment(rank, 2, meeting, device="cpu", cache_dir=CACHE_DIR.absolute(), threads=1)
    import torch

    torch.set_num_threads(1)
    distributed.join(rank, 2, meeting, "gloo")
    drawn = {}
    for checkpoint in checkpoints:
        for path in ["stock", "lean"] if kernels else ["stock"]:
            runner = _make_runner(Path(checkpoint), rank, board_fd, kernels if path == "lean" else "")
            if rank == 0:
                drawn[f"{checkpoint} {path}"] = _lead(_Leading(runner, line))
                line.write(_NEXT)
            else:
                _follow(runner, line)
    if rank == 0:
        json.dump(drawn, results)
    results.close()


def _make_runner(checkpoint: Path, rank: int, board_fd: int, kernels: str) -> Any:
    import torch

    from services.inference.engine import distributed
    from services.inference.engine.kernels.native import Kernels
    from services.inference.engine.kv_cache import KvCache
    from services.inference.engine.lean.adopt import adopt
    from services.inference.engine.lean.runner import LeanRunner
    from services.inference.engine.loading import load_whole_model, shard
    from services.inference.engine.model_runner import ModelRunner
    from services.inference.engine.vocabulary import board_bytes, open_board
    from tests.support.tiny_model import CONTEXT_TOKENS

    model: Any = load_whole_model(checkpoint, torch.float32)
    vocabulary_size = model.get_output_embeddings().weight.shape[0]
    os.ftruncate(board_fd, board_bytes(_LOGIT_ROWS, vocabulary_size, 2))
    model = shard(model, torch.float32, rank, 2)
    fence = distributed.make_fence(torch.device("cpu"))
    board = open_board(board_fd, _LOGIT_ROWS, vocabulary_size, rank, 2, fence)
    if not kernels:
        return ModelRunner(model, KvCache(_BLOCKS), torch.device("cpu"), board)
    lean = adopt(model, Kernels(Path(kernels), 1), distributed.all_reduce, position_count=CONTEXT_TOKENS)
    return LeanRunner(lean, _BLOCKS, board)


def _lead(runner: _Leading) -> dict[int, list[int]]:
    """With larger steps than one rank alone: what costs time here is how often the ranks wait for each other."""
    from tests.integration.inference_engine.arrivals import fifty_requests, run_arrivals
    from tests.unit.inference_engine.requests import make_scheduler

    scheduler = make_scheduler(blocks=_BLOCKS, max_sequences=16, step_tokens=64)
    requests = fifty_requests()
    transcript = run_arrivals(runner, requests, scheduler)
    assert scheduler.load().preemption_count > 0
    return {message.sequence_id: transcript.ids(message.sequence_id) for message in requests}


def _follow(runner: Any, line: BlockingChannel[Any, Any]) -> None:
    while isinstance(plan := line.read(), StepPlan):
        runner.run(plan)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
