"""The halves of a layer with float weights: torch multiplies, our kernels do what lies between.

Legend: T tokens, K inputs, N outputs of all parts together, E hidden size, F inner size of the feed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from services.inference.engine.kernels.native import Heads, Kernels
from services.inference.engine.lean.model import LayerCache, Norm, Rotary, Step


@dataclass(frozen=True, slots=True)
class DenseProduct:
    """Float weights, left where they are: layers that read the same input are parts, multiplied one by one."""

    parts: tuple[tuple[Tensor, Tensor | None], ...]

    def __call__(self, x_TK: Tensor, into_TN: Tensor | None = None) -> Tensor:
        products = [nn.functional.linear(x_TK, weight, bias) for weight, bias in self.parts]
        y_TN = products[0] if len(products) == 1 else torch.cat(products, dim=-1)
        return y_TN if into_TN is None else into_TN.copy_(y_TN)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseAttention:
    """A rank may have no heads; then it adds nothing."""

    kernels: Kernels
    norm: Norm
    heads: Heads
    rotary: Rotary
    head_norms: tuple[Norm, Norm] | None  # of queries and of keys
    window: int  # 0: none
    scaling: float
    query_key_value: DenseProduct
    output: DenseProduct

    def __call__(self, x_TE: Tensor, delta_TE: Tensor | None, step: Step, cache: LayerCache) -> Tensor:
        normed_TE = self.kernels.rms_norm(x_TE, self.norm.weight_E, self.norm.epsilon, delta_TE=delta_TE)
        if self.heads.query == 0:
            return torch.zeros_like(x_TE)
        return self.output(self._mixed(self.query_key_value(normed_TE), step, cache))

    def _mixed(self, qkv_TX: Tensor, step: Step, cache: LayerCache) -> Tensor:
        """What this rank's heads make of the cached values."""
        norms, epsilon = None, 0.0
        if self.head_norms is not None:
            q_norm, k_norm = self.head_norms
            norms, epsilon = (q_norm.weight_E, k_norm.weight_E), q_norm.epsilon
        self.kernels.rotate_and_store(
            qkv_TX, self.heads, step.positions_T, self.rotary.cosine_PD, self.rotary.sine_PD, norms, epsilon,
            step.slots_T, cache.keys, cache.values,
        )  # fmt: skip
        return self.kernels.attend(qkv_TX, self.heads, cache.keys, cache.values, step.chunks, self.window, self.scaling)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseFeed:
    """Gate and up are one product."""

    kernels: Kernels
    norm: Norm
    gate_up: DenseProduct
    activation: str
    down: DenseProduct

    def __call__(self, x_TE: Tensor, delta_TE: Tensor | None) -> Tensor:
        normed_TE = self.kernels.rms_norm(x_TE, self.norm.weight_E, self.norm.epsilon, delta_TE=delta_TE)
        return self.down(self.kernels.gate(self.gate_up(normed_TE), self.activation))
