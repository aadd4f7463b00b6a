"""Each rank's part of the draws: its slice of each row reduced to the excerpt that the plan asks for, then gathered.

Legend: R rows, v this rank's slice of the vocabulary, B some of the rows, K candidates, W words (see `candidates`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from services.inference.engine.candidates import Ints, Layout
from services.inference.engine.plan import StepPlan
from services.inference.engine.rows import Rows
from services.inference.engine.vocabulary import LogitBoard


class Reduce(Protocol):
    """This rank's words [W], float64 on the CPU, of its slice, whose first column is token `first_id`."""

    def __call__(self, logits_Rv: Tensor, first_id: int, layout: Layout) -> Tensor: ...


def gather_rows(plan: StepPlan, logits_Rv: Tensor, board: LogitBoard, reduce: Reduce) -> Rows:
    """What rank 0 draws from. The rows that it may read whole must be on the board already."""
    excerpts = plan.excerpts
    layout = Layout(excerpts)
    words_W = reduce(logits_Rv, board.first_id, layout)
    gathered = board.gather(words_W, len(excerpts), rows_to_read(plan))
    return Rows(excerpts, layout, gathered.words_SW.numpy(), gathered.logits_RV.numpy())


def rows_to_read(plan: StepPlan) -> list[int]:
    """The rows that rank 0 may want to see whole."""
    return [row for row, excerpt in enumerate(plan.excerpts) if not excerpt.is_enough]


def reduce_in_torch(logits_Rv: Tensor, first_id: int, layout: Layout) -> Tensor:
    """On any device, in torch's own operations."""
    words_W = np.zeros(layout.word_count)
    takes_best_R = (layout.counts_R == 1) & (layout.temperatures_R == 0.0)
    best, some = np.flatnonzero(takes_best_R), np.flatnonzero((layout.counts_R > 0) & ~takes_best_R)
    if len(best):
        values_B, places_B = logits_Rv[torch.from_numpy(best)].max(dim=1)
        words_W[layout.begins_R[best]] = values_B.float().cpu().numpy()
        words_W[layout.candidate_count + layout.begins_R[best]] = first_id + places_B.cpu().numpy()
    if len(some):
        _reduce_some(logits_Rv, first_id, layout, some, words_W)
    return torch.from_numpy(words_W)


def _reduce_some(logits_Rv: Tensor, first_id: int, layout: Layout, rows: Ints, words_W: np.ndarray) -> None:
    logits_Bv = logits_Rv[torch.from_numpy(rows)].float()
    values_BK, places_BK = _top(logits_Bv, min(int(layout.counts_R[rows].max()), logits_Bv.shape[1]))
    rests_B = _rests(logits_Bv, values_BK, layout, rows)
    words_W[2 * layout.candidate_count + rows] = rests_B.cpu().numpy()
    for b, row in enumerate(rows):
        begin, count = layout.begins_R[row], layout.counts_R[row]
        found = min(count, values_BK.shape[1])
        values, ids = words_W[begin : begin + count], words_W[layout.candidate_count + begin :][:count]
        values[:], ids[:] = -np.inf, -1
        values[:found] = values_BK[b, :found].cpu().numpy()
        ids[:found] = first_id + places_BK[b, :found].cpu().numpy()


def _top(logits_Bv: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Largest first, the lowest place first among equals, which torch.topk leaves open; NaN before all."""
    values_BK, places_BK = logits_Bv.topk(count, dim=1)
    places_BK, order_BK = places_BK.sort(dim=1)
    values_BK, order_BK = values_BK.gather(1, order_BK).sort(dim=1, descending=True, stable=True)
    places_BK = places_BK.gather(1, order_BK)
    is_tied_B = (logits_Bv >= values_BK[:, -1:]).sum(dim=1) > count
    for b in is_tied_B.nonzero().flatten().tolist():
        values, places = logits_Bv[b].sort(descending=True, stable=True)
        values_BK[b], places_BK[b] = values[:count], places[:count]
    return values_BK, places_BK


def _rests(logits_Bv: Tensor, values_BK: Tensor, layout: Layout, rows: Ints) -> Tensor:
    """Sum of the exponentials of what is not among each row's own count of candidates; 0 where it isn't asked for."""
    device = logits_Bv.device
    temperatures_B1 = torch.from_numpy(layout.temperatures_R[rows]).to(device)[:, None]
    lasts_B1 = torch.from_numpy(layout.counts_R[rows]).to(device)[:, None].clamp(max=values_BK.shape[1]) - 1
    firsts_B1, bounds_B1 = values_BK[:, :1], values_BK.gather(1, lasts_B1)
    scales_B1 = torch.where(temperatures_B1 > 0, temperatures_B1, 1.0)
    below_Bv = torch.exp((logits_Bv - firsts_B1) / scales_B1).where(logits_Bv < bounds_B1, 0.0)
    steps_K = torch.arange(values_BK.shape[1], device=device)
    equal_B = (logits_Bv == bounds_B1).sum(1) - ((values_BK == bounds_B1) & (steps_K <= lasts_B1)).sum(1)
    of_equal_B = equal_B * torch.exp((bounds_B1 - firsts_B1) / scales_B1)[:, 0].double()
    rests_B = torch.where(torch.isneginf(firsts_B1[:, 0]), 0.0, below_Bv.sum(dim=1, dtype=torch.float64) + of_equal_B)
    return torch.where(temperatures_B1[:, 0] > 0, rests_B, 0.0)
