"""The halves of a layer with 8-bit weights, each one call of our kernels.

Legend: T tokens, K inputs, N outputs, E hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from services.inference.engine.kernels.native import GATE_KINDS, Int8Weight, Kernels, native_product
from services.inference.engine.kernels.structures import NativeAttentionHalf, NativeFeedHalf, NativeProduct
from services.inference.engine.lean.dense import DenseAttention, DenseFeed, DenseProduct
from services.inference.engine.lean.model import Layer, LayerCache, LeanModel, Step


@dataclass(frozen=True, slots=True)
class Int8Product:
    """One byte a weight, a scale for each group of an output's inputs; x is quantised token by token."""

    kernels: Kernels
    weight: Int8Weight
    bias_N: Tensor | None

    def __call__(self, x_TK: Tensor, into_TN: Tensor | None = None) -> Tensor:
        y_TN = torch.empty(x_TK.shape[0], self.weight.output_count) if into_TN is None else into_TN
        return self.kernels.linear_int8(x_TK, self.weight, self.bias_N, y_TN)

    @property
    def native(self) -> NativeProduct:
        return native_product(self.weight, self.bias_N)


class Int8Attention:
    """Keeps the tensors that its structure points to, and no float weight."""

    def __init__(self, dense: DenseAttention) -> None:
        self._kernels = dense.kernels
        self._kept = dense.norm, dense.head_norms, dense.rotary
        self._products = _quantised(dense.query_key_value, dense.kernels), _quantised(dense.output, dense.kernels)
        self._native = _native_attention(dense, *self._products)

    def __call__(self, x_TE: Tensor, delta_TE: Tensor | None, step: Step, cache: LayerCache) -> Tensor:
        return self._kernels.attention_half(self._native, step.native, cache.keys, cache.values, x_TE, delta_TE)


class Int8Feed:
    """Keeps the tensors that its structure points to, and no float weight."""

    def __init__(self, dense: DenseFeed) -> None:
        self._kernels = dense.kernels
        self._kept = dense.norm
        self._products = gate_up, down = _quantised(dense.gate_up, dense.kernels), _quantised(dense.down, dense.kernels)
        self._native = NativeFeedHalf(
            norm=dense.norm.weight_E.data_ptr(),
            gate_up=gate_up.native,
            down=down.native,
            activation=GATE_KINDS[dense.activation],
            epsilon=dense.norm.epsilon,
        )

    def __call__(self, x_TE: Tensor, delta_TE: Tensor | None) -> Tensor:
        return self._kernels.feed_half(self._native, x_TE, delta_TE)


def quantised(model: LeanModel) -> LeanModel:
    """The same model with 8-bit weights in all its products; `model` has float weights and stays as it is."""
    layers = tuple(map(_quantised_layer, model.layers))
    return replace(model, layers=layers, head=_quantised(cast(DenseProduct, model.head), model.kernels))


def _quantised_layer(layer: Layer) -> Layer:
    attention, feed = cast(DenseAttention, layer.attention), cast(DenseFeed, layer.feed)
    return replace(layer, attention=Int8Attention(attention), feed=Int8Feed(feed))


def _quantised(dense: DenseProduct, kernels: Kernels) -> Int8Product:
    weights = [weight for weight, _ in dense.parts]
    weight = torch.cat(weights) if len(weights) > 1 else weights[0]
    return Int8Product(kernels, kernels.pack_int8(weight), _joined_bias(dense))


def _joined_bias(dense: DenseProduct) -> Tensor | None:
    if all(bias is None for _, bias in dense.parts):
        return None
    return torch.cat([torch.zeros(weight.shape[0]) if bias is None else bias for weight, bias in dense.parts]).float()


def _native_attention(dense: DenseAttention, query_key_value: Int8Product, output: Int8Product) -> NativeAttentionHalf:
    q_norm, k_norm = dense.head_norms if dense.head_norms is not None else (None, None)
    return NativeAttentionHalf(
        norm=dense.norm.weight_E.data_ptr(),
        query_key_value=query_key_value.native,
        output=output.native,
        heads=dense.heads.query,
        kv_heads=dense.heads.key_value,
        dim=dense.heads.dim,
        cosine=dense.rotary.cosine_PD.data_ptr(),
        sine=dense.rotary.sine_PD.data_ptr(),
        query_norm=q_norm.weight_E.data_ptr() if q_norm else None,
        key_norm=k_norm.weight_E.data_ptr() if k_norm else None,
        window=dense.window,
        epsilon=dense.norm.epsilon,
        head_epsilon=q_norm.epsilon if q_norm else 0.0,
        scaling=dense.scaling,
    )
