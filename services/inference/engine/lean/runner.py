"""A Runner on the fast path: plans to index tensors, hidden states to this rank's columns of the logits."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from services.inference.engine.kernels.native import Chunks
from services.inference.engine.lean.model import LayerCache, LeanModel, Step
from services.inference.engine.plan import StepPlan
from services.inference.engine.step_input import StepInput
from services.inference.engine.vocabulary import Board


class LeanRunner:
    """One rank. `board` is where the logits of all ranks come together."""

    def __init__(self, model: LeanModel, block_count: int, board: Board) -> None:
        self._model, self._board = model, board
        self._caches = [LayerCache(block_count, layer.heads) for layer in model.layers]

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> Tensor:
        hidden_RE = self._model.hidden(step_of(plan), self._caches)
        rows_Rv = self._board.own_columns(hidden_RE.shape[0])
        self._model.head(hidden_RE, rows_Rv)
        return self._board.whole_rows(hidden_RE.shape[0])


def step_of(plan: StepPlan) -> Step:
    """All index tensors of one step."""
    indices = StepInput(plan, torch.device("cpu"))
    tables = [chunk.block_ids for chunk in plan.chunks]
    chunks = Chunks(
        begins=torch.tensor([0, *accumulate(len(chunk.token_ids) for chunk in plan.chunks)]),
        starts=torch.tensor([chunk.start for chunk in plan.chunks]),
        tables=torch.tensor([block for table in tables for block in table], dtype=torch.int32),
        table_begins=torch.tensor([0, *accumulate(len(table) for table in tables)][:-1]),
    )
    return Step(
        token_ids_T=indices.token_ids_T,
        positions_T=indices.positions_T,
        slots_T=indices.slots_T,
        chunks=chunks,
        logit_index_R=indices.logit_index_R,
    )
