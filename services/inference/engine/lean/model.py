"""A decoder's forward pass: rotary positions, grouped queries, gated feed-forward, norms before (and after) each half.

Legend: T tokens of the step, E hidden size, R rows that need logits. Tensors are float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from services.inference.engine.blocks import BLOCK_TOKENS
from services.inference.engine.kernels.native import Chunks, Heads, Kernels
from services.inference.engine.lean.linear import Linear

AllReduce = Callable[[Tensor], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """x / rms(x) * weight."""

    weight_E: Tensor
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotary:
    """Cosines and sines by position, [P, D]."""

    cosine_PD: Tensor
    sine_PD: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer's share of one rank. `sums_attention`, `sums_feed`: its output is a part of a sum over ranks."""

    heads: Heads
    rotary: Rotary
    window: int  # 0: none
    scaling: float
    attention_norm: Norm
    head_norms: tuple[Norm, Norm] | None  # of queries and of keys
    query_key_value: Linear
    attention_output: Linear
    sums_attention: bool
    attention_output_norm: Norm | None
    feed_norm: Norm
    gate_up: Linear
    activation: str
    down: Linear
    sums_feed: bool
    feed_output_norm: Norm | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A plan as tensors."""

    token_ids_T: Tensor
    positions_T: Tensor
    slots_T: Tensor
    chunks: Chunks
    logit_index_R: Tensor


class LayerCache:
    """Keys and values of one layer, in the order that the kernels read. Untouched blocks take no memory."""

    def __init__(self, block_count: int, heads: Heads) -> None:
        self.keys = torch.empty(block_count, heads.key_value, heads.dim, BLOCK_TOKENS)
        self.values = torch.empty(block_count, heads.key_value, BLOCK_TOKENS, heads.dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeanModel:
    """All layers of one rank, and the head over its slice of the vocabulary."""

    kernels: Kernels
    all_reduce: AllReduce
    embed: Callable[[Tensor], Tensor]
    layers: tuple[Layer, ...]
    final_norm: Norm
    head: Linear

    def hidden(self, step: Step, caches: list[LayerCache]) -> Tensor:
        """The normed last states [R, E] of the rows that need logits."""
        x_TE = self.embed(step.token_ids_T).float()
        delta_TE: Tensor | None = None
        for layer, cache in zip(self.layers, caches, strict=True):
            delta_TE = self._attention(layer, cache, step, x_TE, delta_TE)
            delta_TE = self._feed(layer, x_TE, delta_TE)
        if delta_TE is not None:
            x_TE += delta_TE
        return self._norm(x_TE[step.logit_index_R], self.final_norm)

    def _attention(self, layer: Layer, cache: LayerCache, step: Step, x_TE: Tensor, delta_TE: Tensor | None) -> Tensor:
        normed_TE = self._norm(x_TE, layer.attention_norm, delta_TE)
        if layer.heads.query == 0:
            part_TE = torch.zeros_like(x_TE)
        else:
            part_TE = layer.attention_output(self._mixed(layer, cache, step, layer.query_key_value(normed_TE)))
        return self._closed(part_TE, layer.sums_attention, layer.attention_output_norm)

    def _mixed(self, layer: Layer, cache: LayerCache, step: Step, qkv_TX: Tensor) -> Tensor:
        """What this rank's heads make of the cached values."""
        norms, epsilon = None, 0.0
        if layer.head_norms is not None:
            q_norm, k_norm = layer.head_norms
            norms, epsilon = (q_norm.weight_E, k_norm.weight_E), q_norm.epsilon
        rotary = layer.rotary
        self.kernels.rotate_and_store(
            qkv_TX, layer.heads, step.positions_T, rotary.cosine_PD, rotary.sine_PD, norms, epsilon, step.slots_T,
            cache.keys, cache.values,
        )  # fmt: skip
        return self.kernels.attend(
            qkv_TX, layer.heads, cache.keys, cache.values, step.chunks, layer.window, layer.scaling
        )

    def _feed(self, layer: Layer, x_TE: Tensor, delta_TE: Tensor) -> Tensor:
        normed_TE = self._norm(x_TE, layer.feed_norm, delta_TE)
        gated_TF = self.kernels.gate(layer.gate_up(normed_TE), layer.activation)
        return self._closed(layer.down(gated_TF), layer.sums_feed, layer.feed_output_norm)

    def _closed(self, part_TE: Tensor, sums: bool, norm: Norm | None) -> Tensor:
        """The whole of what a half layer adds to the residual stream."""
        if sums:
            self.all_reduce(part_TE)
        if norm is None:
            return part_TE
        return self.kernels.rms_norm(part_TE, norm.weight_E, norm.epsilon, in_place=True)

    def _norm(self, x_TE: Tensor, norm: Norm, delta_TE: Tensor | None = None) -> Tensor:
        return self.kernels.rms_norm(x_TE, norm.weight_E, norm.epsilon, delta_TE=delta_TE)
