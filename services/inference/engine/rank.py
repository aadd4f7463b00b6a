"""One rank's part of the start: environment, weights, meeting the others, a runner. The same code on every rank."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from services.inference.engine import distributed
from services.inference.engine.options import EngineOptions


def prepare(options: EngineOptions) -> None:
    """Set the environment, then import what is heavy."""
    threads = options.threads or max(1, len(os.sched_getaffinity(0)) // options.tensor_parallel_size)
    distributed.prepare_environment(
        options.rank,
        options.tensor_parallel_size,
        options.rendezvous,
        device=options.device,
        cache_dir=options.cache_dir.absolute(),
        threads=threads,
    )
    import torch

    torch.set_num_threads(threads)


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

        model: Any = load_whole_model(options.model_dir, getattr(torch, options.dtype))
        return cls(
            options=options,
            model=model,
            vocabulary_size=model.get_output_embeddings().weight.shape[0],
            parameter_count=sum(parameter.numel() for parameter in model.parameters()),
        )

    def make_runner(self, all_reduce: str) -> Any:
        """Meet the other ranks, keep this rank's share, and wrap it as a Runner."""
        import torch

        from services.inference.engine.blocks import BLOCK_TOKENS
        from services.inference.engine.kv_cache import KvCache
        from services.inference.engine.loading import shard
        from services.inference.engine.model_runner import ModelRunner
        from services.inference.engine.vocabulary import open_board

        options, size = self.options, self.options.tensor_parallel_size
        device = torch.device(options.device, options.rank) if options.device == "cuda" else torch.device("cpu")
        board, fence = None, None
        if size > 1:
            distributed.join(options.rank, size, options.rendezvous, all_reduce)
            board = open_board(options.board_fd, options.logit_rows, self.vocabulary_size)
            fence = distributed.make_fence(device)
        model = shard(self.model, getattr(torch, options.dtype), options.rank, size).to(device)
        cache = KvCache(options.kv_tokens // BLOCK_TOKENS)
        return ModelRunner(model, cache, device, board=board, fence=fence)
