"""Runs a plan on this rank's shard of the model. All ranks run the same plan; rank 0 gets the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from services.inference.engine.kv_cache import KvCache
from services.inference.engine.plan import StepPlan
from services.inference.engine.step_input import StepInput
from services.inference.engine.vocabulary import VocabularySlice


class Runner(Protocol):
    """What the loop needs: logits [R, V] in the order of the plan's chunks, valid until the next call."""

    def run(self, plan: StepPlan) -> Tensor: ...


class ModelRunner:
    """One rank's model, cache and view of the shared logits.

    `board` [rows, V] is shared between ranks and `fence` waits until all have come to the same point; both are None
    where one rank holds the whole vocabulary.
    """

    def __init__(
        self,
        model: nn.Module,
        kv_cache: KvCache,
        device: torch.device,
        *,
        board: Tensor | None = None,
        fence: Callable[[], None] | None = None,
    ) -> None:
        self._model, self._kv_cache, self._device = model, kv_cache, device
        self._board, self._fence = board, fence
        self._slices = [module for module in model.modules() if isinstance(module, VocabularySlice)]

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> Tensor:
        step = StepInput(plan, self._device)
        output = self._model(
            input_ids=step.token_ids_T[None],
            position_ids=step.positions_T[None],
            use_cache=False,
            logits_to_keep=step.logit_index_R,
            step=step,
            kv_cache=self._kv_cache,
        )
        return self._gather(output.logits[0])

    def _gather(self, logits_Rv: Tensor) -> Tensor:
        if self._board is None or self._fence is None:
            return logits_Rv.float().cpu()
        rows, owned = logits_Rv.shape[0], self._slices[0]
        self._board[:rows, owned.begin : owned.end].copy_(logits_Rv)
        self._fence()
        return self._board[:rows]
