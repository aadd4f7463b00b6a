"""The paged KV cache's tensors: one pair per layer, made when the layer first runs.

Legend: S slots (block_id * BLOCK_TOKENS + offset), H key/value heads of this rank, D head dimension. Shapes come from
the layer's own keys, so that any head count that sharding leaves on a rank is right.
"""

from __future__ import annotations

import torch
from torch import Tensor

from services.inference.engine.blocks import BLOCK_TOKENS


class KvCache:
    """Keys and values of all layers on one rank; `write` and `read` address slots."""

    def __init__(self, block_count: int) -> None:
        self._slot_count = block_count * BLOCK_TOKENS
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def write(self, layer: int, slots_T: Tensor, keys_THD: Tensor, values_THD: Tensor) -> None:
        if layer not in self._layers:
            self._layers[layer] = self._empty(keys_THD), self._empty(values_THD)
        keys_SHD, values_SHD = self._layers[layer]
        keys_SHD.index_copy_(0, slots_T, keys_THD)
        values_SHD.index_copy_(0, slots_T, values_THD)

    def read(self, layer: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values at `slots`, shape slots.shape + (H, D)."""
        keys_SHD, values_SHD = self._layers[layer]
        flat = slots.reshape(-1)
        shape = (*slots.shape, *keys_SHD.shape[1:])
        return keys_SHD.index_select(0, flat).view(shape), values_SHD.index_select(0, flat).view(shape)

    def _empty(self, like_THD: Tensor) -> Tensor:
        return torch.empty((self._slot_count, *like_THD.shape[1:]), dtype=like_THD.dtype, device=like_THD.device)
