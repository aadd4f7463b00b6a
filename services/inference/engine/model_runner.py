"""Runs a plan on this rank's shard of the model, as transformers defines it. All ranks run the same plan."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from services.inference.engine.kv_cache import KvCache
from services.inference.engine.plan import StepPlan
from services.inference.engine.reduction import gather_rows, reduce_in_torch, rows_to_read
from services.inference.engine.rows import Rows
from services.inference.engine.step_input import StepInput
from services.inference.engine.vocabulary import LogitBoard


class ModelRunner:
    """One rank. Of the logits on a GPU, only what rank 0 may read comes to the board."""

    def __init__(self, model: nn.Module, kv_cache: KvCache, device: torch.device, board: LogitBoard) -> None:
        self._model, self._kv_cache, self._device, self._board = model, kv_cache, device, board

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> Rows:
        logits_Rv = self.logits(plan)
        if whole_rows := rows_to_read(plan):
            self._board.own_columns(plan.logit_count)[whole_rows] = logits_Rv[whole_rows].float().cpu()
        return gather_rows(plan, logits_Rv, self._board, reduce_in_torch)

    @torch.inference_mode()
    def logits(self, plan: StepPlan) -> Tensor:
        """This rank's columns [R, v], on the device and in the model's number type; nothing waits for them here."""
        step = StepInput(plan, self._device)
        output = self._model(
            input_ids=step.token_ids_T[None],
            position_ids=step.positions_T[None],
            use_cache=False,
            logits_to_keep=step.logit_index_R,
            step=step,
            kv_cache=self._kv_cache,
        )
        logits_Rv: Tensor = output.logits[0]
        return logits_Rv
