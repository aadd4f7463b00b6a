"""A decoder's forward pass: what is the same whatever its halves are made of (`dense`, `int8`).

Layers have rotary positions, grouped queries, a gated feed-forward, and norms before (and maybe after) each half.

Legend: T tokens of the step, E hidden size, R rows that need logits. Tensors are float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from services.inference.engine.blocks import BLOCK_TOKENS
from services.inference.engine.kernels.native import Chunks, Heads, Kernels, native_step
from services.inference.engine.kernels.structures import NativeStep

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


class LayerCache:
    """Keys and values of one layer, in the order that the kernels read. Untouched blocks take no memory."""

    def __init__(self, block_count: int, heads: Heads) -> None:
        self.keys = torch.empty(block_count, heads.key_value, heads.dim, BLOCK_TOKENS)
        self.values = torch.empty(block_count, heads.key_value, BLOCK_TOKENS, heads.dim)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A plan as tensors."""

    token_ids_T: Tensor
    positions_T: Tensor
    slots_T: Tensor
    chunks: Chunks
    logit_index_R: Tensor

    @cached_property
    def native(self) -> NativeStep:
        """The same for kernels that run half a layer; valid as long as this step is."""
        return native_step(self.positions_T, self.slots_T, self.chunks)


class Product(Protocol):
    """y = x W^T + b."""

    def __call__(self, x_TK: Tensor, into_TN: Tensor | None = None) -> Tensor:
        """Into `into_TN`, whose rows may lie apart, or into a new tensor."""
        ...


class AttentionHalf(Protocol):
    """Norm, attention and its output."""

    def __call__(self, x_TE: Tensor, delta_TE: Tensor | None, step: Step, cache: LayerCache) -> Tensor:
        """x grows by delta; gives what this rank's heads add to it."""
        ...


class FeedHalf(Protocol):
    """Norm and gated feed-forward."""

    def __call__(self, x_TE: Tensor, delta_TE: Tensor | None) -> Tensor:
        """x grows by delta; gives what this rank's share adds to it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer's share of one rank. `sums_attention`, `sums_feed`: its output is a part of a sum over ranks."""

    heads: Heads
    attention: AttentionHalf
    sums_attention: bool
    attention_output_norm: Norm | None
    feed: FeedHalf
    sums_feed: bool
    feed_output_norm: Norm | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeanModel:
    """All layers of one rank, and the head over its slice of the vocabulary."""

    kernels: Kernels
    all_reduce: AllReduce
    embed: Callable[[Tensor], Tensor]
    layers: tuple[Layer, ...]
    final_norm: Norm
    head: Product

    def hidden(self, step: Step, caches: list[LayerCache]) -> Tensor:
        """The normed last states [R, E] of the rows that need logits."""
        x_TE = self.embed(step.token_ids_T).float()
        delta_TE: Tensor | None = None
        for layer, cache in zip(self.layers, caches, strict=True):
            part_TE = layer.attention(x_TE, delta_TE, step, cache)
            delta_TE = self._whole(part_TE, layer.sums_attention, layer.attention_output_norm)
            part_TE = layer.feed(x_TE, delta_TE)
            delta_TE = self._whole(part_TE, layer.sums_feed, layer.feed_output_norm)
        if delta_TE is not None:
            x_TE += delta_TE
        last_RE = x_TE[step.logit_index_R]
        return self.kernels.rms_norm(last_RE, self.final_norm.weight_E, self.final_norm.epsilon)

    def _whole(self, part_TE: Tensor, sums: bool, norm: Norm | None) -> Tensor:
        """What all ranks together add to the residual stream."""
        if sums:
            self.all_reduce(part_TE)
        if norm is None:
            return part_TE
        return self.kernels.rms_norm(part_TE, norm.weight_E, norm.epsilon, in_place=True)
