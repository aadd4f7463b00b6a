"""Is the fast path right, and what does int8 lose? Measured at every start, on this model and this machine.

Legend: T tokens of the sample, E hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.inference.engine.blocks import BLOCK_TOKENS, blocks_for
from services.inference.engine.kv_cache import KvCache
from services.inference.engine.lean.model import LayerCache, LeanModel
from services.inference.engine.lean.runner import LeanRunner, step_of
from services.inference.engine.plan import Chunk, StepPlan
from services.inference.engine.step_input import StepInput

TOKENS = 24  # more than one block
MOST_DIFFERENCE = 1e-3  # relative; sums in another order give 1e-6, a wrong formula 1e-1
_PIECE = 2 * BLOCK_TOKENS


@torch.inference_mode()
def difference(lean: LeanModel, stock: Any, vocabulary_size: int) -> float:
    """How far the fast path's hidden states are from those of the model's own definition, relative to their size.

    All ranks must call it; NaN where a result is not a number.
    """
    token_ids = [(7919 * i + 11) % vocabulary_size for i in range(TOKENS)]
    plan = _plan(token_ids, 0, len(token_ids))
    expected_TE = stock.model(
        input_ids=torch.tensor([token_ids]),
        position_ids=torch.arange(TOKENS)[None],
        use_cache=False,
        step=StepInput(plan, torch.device("cpu")),
        kv_cache=KvCache(blocks_for(TOKENS)),
    ).last_hidden_state[0]
    caches = [LayerCache(blocks_for(TOKENS), layer.heads) for layer in lean.layers]
    return float((lean.hidden(step_of(plan), caches) - expected_TE).norm() / expected_TE.norm())


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What quantising costs on a sample text."""

    token_count: int
    perplexity_ratio: float  # quantised / float32
    top1_agreement: float  # share of positions with the same likeliest token

    def __str__(self) -> str:
        return (
            f"perplexity {100 * (self.perplexity_ratio - 1):+.2f} %, same likeliest token at "
            f"{100 * self.top1_agreement:.1f} % of {self.token_count} positions, against float32"
        )


def loss_of(quantised: LeanRunner, exact: LeanRunner, sample_ids: list[int]) -> Loss | None:
    """Teacher-forced over the sample. None for a sample that is too short to say anything. All ranks must call it."""
    if len(sample_ids) < _PIECE:
        return None
    nll_sums, same = [0.0, 0.0], 0
    for start in range(0, len(sample_ids), _PIECE):
        plan = _plan(sample_ids, start, min(start + _PIECE, len(sample_ids)))
        following = torch.tensor(sample_ids[start + 1 : start + _PIECE + 1])
        likeliest: list[Tensor] = []
        for i, runner in enumerate((quantised, exact)):
            logits_TV = torch.from_numpy(runner.run(plan).logits_RV[: len(following)])
            nll_sums[i] += float(torch.nn.functional.cross_entropy(logits_TV, following, reduction="sum"))
            likeliest.append(logits_TV.argmax(dim=-1))
        same += int((likeliest[0] == likeliest[1]).sum())
    count = len(sample_ids) - 1
    ratio = float(torch.tensor((nll_sums[0] - nll_sums[1]) / count).exp())
    return Loss(token_count=count, perplexity_ratio=ratio, top1_agreement=same / count)


def _plan(token_ids: list[int], start: int, end: int) -> StepPlan:
    chunk = Chunk(
        sequence_id=0,
        token_ids=token_ids[start:end],
        start=start,
        block_ids=list(range(blocks_for(end))),
        logit_count=end - start,
    )
    return StepPlan(step=0, chunks=[chunk])
