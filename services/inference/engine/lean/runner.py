"""A Runner on the fast path: plans to index tensors, hidden states to this rank's columns of the logits."""

from __future__ import annotations

import torch

from services.inference.engine.kernels.native import Chunks
from services.inference.engine.lean.model import LayerCache, LeanModel, Step
from services.inference.engine.packed import pack_plan
from services.inference.engine.plan import StepPlan
from services.inference.engine.reduction import gather_rows
from services.inference.engine.rows import Rows
from services.inference.engine.vocabulary import LogitBoard


class LeanRunner:
    """One rank. `board` is where the logits of all ranks come together."""

    def __init__(self, model: LeanModel, block_count: int, board: LogitBoard) -> None:
        self._model, self._board = model, board
        self._caches = [LayerCache(block_count, layer.heads) for layer in model.layers]

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> Rows:
        hidden_RE = self._model.hidden(step_of(plan), self._caches)
        logits_Rv = self._board.own_columns(hidden_RE.shape[0])
        self._model.head(hidden_RE, logits_Rv)
        return gather_rows(plan, logits_Rv, self._board, self._model.kernels.reduce)


def step_of(plan: StepPlan) -> Step:
    """All index tensors of one step."""
    packed = pack_plan(plan)
    chunks = Chunks(
        begins=torch.from_numpy(packed.begins),
        starts=torch.from_numpy(packed.starts_C),
        tables=torch.from_numpy(packed.tables),
        table_begins=torch.from_numpy(packed.table_begins_C),
    )
    return Step(
        token_ids_T=torch.from_numpy(packed.token_ids_T),
        positions_T=torch.from_numpy(packed.positions_T),
        slots_T=torch.from_numpy(packed.slots_T),
        chunks=chunks,
        logit_index_R=torch.from_numpy(packed.logit_index_R),
    )
