"""Runs a plan on this rank's shard of the model. All ranks run the same plan; rank 0 gets the logits."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from services.inference.engine.kv_cache import KvCache
from services.inference.engine.plan import StepPlan
from services.inference.engine.step_input import StepInput
from services.inference.engine.vocabulary import Board


class Runner(Protocol):
    """What the loop needs: logits [R, V] in the order of the plan's chunks, valid until the next call."""

    def run(self, plan: StepPlan) -> Tensor: ...


class ModelRunner:
    """One rank of the model as transformers defines it. `board` is None where one rank holds the whole vocabulary."""

    def __init__(self, model: nn.Module, kv_cache: KvCache, device: torch.device, board: Board | None = None) -> None:
        self._model, self._kv_cache, self._device, self._board = model, kv_cache, device, board

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> Tensor:
        logits_Rv = self.logits(plan)
        if self._board is None:
            return logits_Rv.float().cpu()
        self._board.own_columns(logits_Rv.shape[0]).copy_(logits_Rv)
        return self._board.whole_rows(logits_Rv.shape[0])

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
