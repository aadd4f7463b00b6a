"""Matrix products of the fast path: the weights as they were loaded, or as 8-bit integers.

Legend: T tokens, K inputs, N outputs of all parts together. Several layers that read the same input are one product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from services.inference.engine.kernels.native import Int8Weight, Kernels


class Linear(Protocol):
    """y = x W^T + b."""

    def __call__(self, x_TK: Tensor, into_TN: Tensor | None = None) -> Tensor:
        """Into `into_TN`, whose rows may lie apart, or into a new tensor."""
        ...


@dataclass(frozen=True, slots=True)
class Dense:
    """Float weights, left where they are: parts are multiplied one by one, so nothing is copied."""

    parts: tuple[tuple[Tensor, Tensor | None], ...]

    def __call__(self, x_TK: Tensor, into_TN: Tensor | None = None) -> Tensor:
        products = [nn.functional.linear(x_TK, weight, bias) for weight, bias in self.parts]
        y_TN = products[0] if len(products) == 1 else torch.cat(products, dim=-1)
        return y_TN if into_TN is None else into_TN.copy_(y_TN)


@dataclass(frozen=True, slots=True)
class Int8:
    """One byte a weight, a scale for each group of an output's inputs; x is quantised token by token."""

    kernels: Kernels
    weight: Int8Weight
    bias_N: Tensor | None

    def __call__(self, x_TK: Tensor, into_TN: Tensor | None = None) -> Tensor:
        y_TN = torch.empty(x_TK.shape[0], self.weight.output_count) if into_TN is None else into_TN
        return self.kernels.linear_int8(x_TK, self.weight, self.bias_N, y_TN)


def quantise(dense: Dense, kernels: Kernels) -> Int8:
    """The same product with 8-bit weights."""
    weight = torch.cat([weight for weight, _ in dense.parts]) if len(dense.parts) > 1 else dense.parts[0][0]
    return Int8(kernels, kernels.pack_int8(weight), _joined_bias(dense))


def _joined_bias(dense: Dense) -> Tensor | None:
    if all(bias is None for _, bias in dense.parts):
        return None
    return torch.cat([torch.zeros(weight.shape[0]) if bias is None else bias for weight, bias in dense.parts]).float()
