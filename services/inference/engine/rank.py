"""One rank's part of the start: environment, weights, meeting the others, a runner. The same code on every rank."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.inference.engine import collection, distributed
from services.inference.engine.available import give_back_freed
from services.inference.engine.options import EngineOptions
from services.inference.engine.plan import Join

if TYPE_CHECKING:
    import torch

    from services.inference.engine.lean.model import LeanModel
    from services.inference.engine.rows import Runner
    from services.inference.engine.vocabulary import LogitBoard


def prepare(options: EngineOptions) -> None:
    """Set the environment, then import what is heavy. Raises ModelError where there is no device for this rank."""
    threads = thread_count(options)
    distributed.prepare_environment(options, threads)
    import torch

    torch.set_num_threads(threads)
    distributed.use_device(options)


def thread_count(options: EngineOptions) -> int:
    """Threads of one rank."""
    return options.threads or max(1, len(os.sched_getaffinity(0)) // options.local_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A runner, and what is to be told about it."""

    runner: Runner
    path: str  # "lean", or why the model's stock definition runs instead
    quantisation_loss: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """A loaded, not yet sharded model."""

    options: EngineOptions
    model: Any
    vocabulary_size: int
    parameter_count: int

    @classmethod
    def load(cls, options: EngineOptions) -> Rank:
        import torch

        from services.inference.engine.loading import load_whole_model

        collection.resume()
        model: Any = load_whole_model(options.model_dir, getattr(torch, options.dtype))
        return cls(
            options=options,
            model=model,
            vocabulary_size=model.get_output_embeddings().weight.shape[0],
            parameter_count=sum(parameter.numel() for parameter in model.parameters()),
        )

    def make_runner(self, join: Join) -> Prepared:
        """Meet the other ranks, keep this rank's share, and wrap it as a Runner. Raises ModelError."""
        options = replace(self.options, kv_tokens=join.kv_tokens, context_tokens=join.context_tokens)
        prepared = replace(self, options=options)._make_runner(join)
        give_back_freed()
        return prepared

    def _make_runner(self, join: Join) -> Prepared:
        import torch

        from services.inference.engine.loading import shard

        options, size = self.options, self.options.tensor_parallel_size
        device = distributed.use_device(options)
        if size > 1:
            distributed.join(options, join.all_reduce)
        model = shard(self.model, getattr(torch, options.dtype), options.rank, size).to(device)
        if not join.kernels:
            return self._stock(model, device, join.no_kernels)
        lean = self._lean_model(model, join)
        return self._stock(model, device, lean) if isinstance(lean, str) else self._lean(lean, model, join)

    def _stock(self, model: Any, device: torch.device, reason: str) -> Prepared:
        from services.inference.engine.kv_cache import KvCache
        from services.inference.engine.model_runner import ModelRunner
        from services.inference.models.errors import ModelError

        if self.options.quantization != "none":
            raise ModelError(f"int8 can't be had: {reason}", "Set engine.dtype to auto or float32.")
        cache = KvCache(self._block_count)
        return Prepared(runner=ModelRunner(model, cache, device, self._board(device)), path=f"stock: {reason}")

    def _lean_model(self, model: Any, join: Join) -> LeanModel | str:
        """The fast path if every rank can take it and it is right, else why not; all ranks come to the same answer."""
        from services.inference.engine.kernels.build import NoKernels
        from services.inference.engine.kernels.native import Kernels
        from services.inference.engine.lean import verify
        from services.inference.engine.lean.adopt import NotLean, adopt

        lean, reason = None, "another rank can't take the fast path; the log of its host says why"
        try:
            kernels = Kernels(self._kernels(join), thread_count(self.options))
            positions = max(self.options.context_tokens, verify.TOKENS)
            lean = adopt(model, kernels, distributed.all_reduce, position_count=positions)
        except (NotLean, NoKernels) as problem:
            reason = str(problem)
            print(f"without the fast path: {reason}", file=sys.stderr)
        if not self._all_agree(lean is not None) or lean is None:
            return reason
        difference = verify.difference(lean, model, self.vocabulary_size)
        if self._all_agree(difference <= verify.MOST_DIFFERENCE):
            return lean
        return f"its results are {difference:.1e} away from those of the model's own definition"

    def _kernels(self, join: Join) -> Path:
        """Node 0 has built its own before; another node's processor and compiler may be others."""
        from services.inference.engine.kernels.build import build

        return Path(join.kernels) if self.options.node_rank == 0 else build(self.options.cache_dir.absolute())

    def _all_agree(self, is_so: bool) -> bool:
        return is_so if self.options.tensor_parallel_size == 1 else distributed.all_agree(is_so)

    def _lean(self, lean: LeanModel, model: Any, join: Join) -> Prepared:
        import torch

        from services.inference.engine.lean import verify
        from services.inference.engine.lean.int8 import quantised
        from services.inference.engine.lean.runner import LeanRunner

        board = self._board(torch.device("cpu"))
        exact = LeanRunner(lean, self._block_count, board)
        if self.options.quantization == "none":
            return Prepared(runner=exact, path="lean")
        runner = LeanRunner(quantised(lean), self._block_count, board)
        loss = verify.loss_of(runner, exact, join.sample_ids)
        model.model.layers = torch.nn.ModuleList()  # the float weights are not needed any more
        return Prepared(runner=runner, path="lean", quantisation_loss=str(loss or "not measured"))

    def _board(self, device: torch.device) -> LogitBoard:
        from services.inference.engine.vocabulary import SharedBoard, open_board

        options, size = self.options, self.options.tensor_parallel_size
        if options.nodes > 1:
            from services.inference.engine.nodes.gathered import GatheredLogits

            gather = distributed.make_gather(device)
            return GatheredLogits(gather, options.logit_rows, self.vocabulary_size, rank=options.rank, size=size)
        if size == 1:
            return SharedBoard.alone(options.logit_rows, self.vocabulary_size)
        fence = distributed.make_fence(device)
        return open_board(options.board_fd, options.logit_rows, self.vocabulary_size, options.rank, size, fence)

    @property
    def _block_count(self) -> int:
        from services.inference.engine.blocks import BLOCK_TOKENS

        return self.options.kv_tokens // BLOCK_TOKENS
