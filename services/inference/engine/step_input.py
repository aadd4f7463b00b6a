"""A plan as tensors for the model's stock definition: what goes in, and what each token may look at.

Legend: T tokens of the step, B chunks of one token, Q tokens of one longer chunk, L cached tokens that are looked at.
Chunks of one token (decoding) are attended to in one padded batch, longer ones (prompts) one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from services.inference.engine.blocks import BLOCK_TOKENS
from services.inference.engine.moving import moved, moved_together
from services.inference.engine.packed import pack_plan
from services.inference.engine.plan import Chunk, StepPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Cached slots to read and which of them each query may see (mask None: causal from the first token on)."""

    slots: Tensor
    mask: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A chunk of several tokens and where it lies among the step's tokens."""

    begin: int
    chunk: Chunk

    @property
    def end(self) -> int:
        return self.begin + len(self.chunk.token_ids)


class StepInput:
    """All index tensors of one step; views are made once per window size, since layers share them."""

    def __init__(self, plan: StepPlan, device: torch.device) -> None:
        self._device = device
        packed = pack_plan(plan)
        pairs = list(zip(packed.begins.tolist(), plan.chunks, strict=False))
        self.prompts = [Prompt(begin=begin, chunk=chunk) for begin, chunk in pairs if len(chunk.token_ids) > 1]
        self._singles = [chunk for chunk in plan.chunks if len(chunk.token_ids) == 1]
        arrays = (packed.token_ids_T, packed.positions_T, packed.slots_T, packed.logit_index_R)
        singles_B = _tensor([begin for begin, chunk in pairs if len(chunk.token_ids) == 1])
        self.token_ids_T, self.positions_T, self.slots_T, self.logit_index_R, self.singles_B = moved_together(
            [*map(torch.from_numpy, arrays), singles_B], device
        )
        self._single_views: dict[int | None, View] = {}
        self._prompt_views: dict[tuple[int | None, int], View] = {}

    def view_of_singles(self, window: int | None) -> View:
        """slots [B, L], mask [B, 1, 1, L]."""
        if window not in self._single_views:
            self._single_views[window] = self._make_single_view(window)
        return self._single_views[window]

    def view_of_prompt(self, prompt: Prompt, window: int | None) -> View:
        """slots [L], mask [Q, L]."""
        key = (window, prompt.begin)
        if key not in self._prompt_views:
            self._prompt_views[key] = self._make_prompt_view(prompt.chunk, window)
        return self._prompt_views[key]

    def _make_single_view(self, window: int | None) -> View:
        seen = [_slots(chunk, _first_seen(chunk.start, window), chunk.end) for chunk in self._singles]
        longest = max(len(slots) for slots in seen)
        # What is masked must still be numbers: a slot that nobody has written yet may hold anything.
        slots_BL = moved(_tensor([slots + slots[-1:] * (longest - len(slots)) for slots in seen]), self._device)
        lengths_B = moved(_tensor([len(slots) for slots in seen]), self._device)
        mask_BL = torch.arange(longest, device=self._device) < lengths_B[:, None]
        return View(slots=slots_BL, mask=mask_BL[:, None, None, :])

    def _make_prompt_view(self, chunk: Chunk, window: int | None) -> View:
        first = _first_seen(chunk.start, window)
        slots_L = moved(_tensor(_slots(chunk, first, chunk.end)), self._device)
        if first == chunk.start and (window is None or len(chunk.token_ids) <= window):
            return View(slots=slots_L, mask=None)
        queries = torch.arange(chunk.start, chunk.end, device=self._device)[:, None]
        keys = torch.arange(first, chunk.end, device=self._device)[None, :]
        mask_QL = keys <= queries
        if window is not None:
            mask_QL &= keys > queries - window
        return View(slots=slots_L, mask=mask_QL)


def _tensor(values: list[int] | list[list[int]]) -> Tensor:
    return torch.tensor(values, dtype=torch.long)


def _first_seen(position: int, window: int | None) -> int:
    return 0 if window is None else max(0, position - window + 1)


def _slots(chunk: Chunk, first: int, end: int) -> list[int]:
    blocks = chunk.block_ids
    return [blocks[p // BLOCK_TOKENS] * BLOCK_TOKENS + p % BLOCK_TOKENS for p in range(first, end)]
