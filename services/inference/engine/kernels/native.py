"""The kernels on torch's tensors: float32, on the CPU, contiguous unless said otherwise.

Legend: T tokens of the step, N outputs, K inputs, H query heads, G key/value heads, D head dimension, B blocks.
Shapes are the caller's to keep right. A call releases the interpreter lock.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from services.inference.engine.candidates import Layout
from services.inference.engine.kernels.structures import (
    NativeAttentionHalf,
    NativeFeedHalf,
    NativeProduct,
    NativeStep,
)

_P, _I, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_SIGNATURES: dict[str, list[type]] = {
    "mesh_pack_int8": [_P, _I, _I, _P, _P],
    "mesh_linear_int8": [_P, _I, _I, _I, _P, _P, _P, _I, _P, _I],
    "mesh_rotate_and_store": [_P, _I, _I, _I, _I, _P, _P, _P, _P, _P, _F, _P, _P, _P],
    "mesh_attend": [_P, _P, _I, _I, _I, _P, _P, _I, _P, _P, _P, _P, _I, _F],
    "mesh_rms_norm": [_P, _P, _P, _F, _I, _I, _P],
    "mesh_gate": [_P, _I, _I, ctypes.c_int, _P],
    "mesh_attention_half": [_P, _P, _P, _P, _P, _P, _P],
    "mesh_feed_half": [_P, _I, _P, _P, _P],
    "mesh_reduce": [_P, _I, _I, _I, _I, _P, _P, _P, _P, _P, _P],
    "mesh_set_threads": [ctypes.c_int],
}
GATE_KINDS = {"silu": 0, "gelu_pytorch_tanh": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Weight:
    """Weights [N, K] as one byte each, w ~ packed * scale; both in the kernel's own order."""

    packed: Tensor
    scales: Tensor
    output_count: int
    input_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """How a row of a fused query/key/value product is cut."""

    query: int
    key_value: int
    dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """C chunks of the step: where each begins (C + 1), its first position, and its block table in `tables`."""

    begins: Tensor  # int64 [C + 1]
    starts: Tensor  # int64 [C]
    tables: Tensor  # int32, all block tables one behind the other
    table_begins: Tensor  # int64 [C]


class Kernels:
    """The loaded library. `threads`: how many cores a call may use."""

    def __init__(self, library: Path, threads: int) -> None:
        self._library = ctypes.CDLL(str(library))
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, None
        for name in ("mesh_packed_bytes", "mesh_scale_count"):
            function = getattr(self._library, name)
            function.argtypes, function.restype = [_I, _I], _I
        self._library.mesh_set_threads(threads)

    def pack_int8(self, weight_NK: Tensor) -> Int8Weight:
        """K must be even."""
        outputs, inputs = weight_NK.shape
        weight_NK = weight_NK.float().contiguous()
        packed = torch.empty(self._library.mesh_packed_bytes(outputs, inputs), dtype=torch.int8)
        scales = torch.empty(self._library.mesh_scale_count(outputs, inputs))
        self._library.mesh_pack_int8(_at(weight_NK), outputs, inputs, _at(packed), _at(scales))
        return Int8Weight(packed=packed, scales=scales, output_count=outputs, input_count=inputs)

    def linear_int8(self, x_TK: Tensor, weight: Int8Weight, bias_N: Tensor | None, y_TN: Tensor) -> Tensor:
        """y = x W^T + bias, into `y_TN`, whose rows may lie apart."""
        self._library.mesh_linear_int8(
            _at(x_TK), x_TK.shape[0], weight.input_count, x_TK.stride(0), _at(weight.packed), _at(weight.scales),
            _at(bias_N), weight.output_count, _at(y_TN), y_TN.stride(0),
        )  # fmt: skip
        return y_TN

    def attention_half(
        self, half: NativeAttentionHalf, step: NativeStep, keys: Tensor, values: Tensor, x_TE: Tensor,
        delta_TE: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """x grows by delta; gives what this rank's heads add to it, [T, E]."""
        part_TE = torch.empty_like(x_TE)
        self._library.mesh_attention_half(
            ctypes.addressof(half),
            ctypes.addressof(step),
            _at(keys),
            _at(values),
            _at(x_TE),
            _at(delta_TE),
            _at(part_TE),
        )
        return part_TE

    def feed_half(self, half: NativeFeedHalf, x_TE: Tensor, delta_TE: Tensor | None) -> Tensor:
        """x grows by delta; gives what this rank's share of the feed adds to it, [T, E]."""
        part_TE = torch.empty_like(x_TE)
        self._library.mesh_feed_half(ctypes.addressof(half), x_TE.shape[0], _at(x_TE), _at(delta_TE), _at(part_TE))
        return part_TE

    def rms_norm(
        self, x_TE: Tensor, weight_E: Tensor, epsilon: float, *, delta_TE: Tensor | None = None, in_place: bool = False
    ) -> Tensor:
        """x / rms(x) * weight; with `delta_TE`, x grows by it first (x itself is changed)."""
        y_TE = x_TE if in_place else torch.empty_like(x_TE)
        self._library.mesh_rms_norm(
            _at(x_TE), _at(delta_TE), _at(weight_E), epsilon, x_TE.shape[0], x_TE.shape[1], _at(y_TE)
        )
        return y_TE

    def gate(self, gate_up_TF: Tensor, kind: str) -> Tensor:
        """[T, 2F] -> activation(first half) * second half, [T, F]."""
        rows, width = gate_up_TF.shape[0], gate_up_TF.shape[1] // 2
        y_TF = torch.empty(rows, width)
        self._library.mesh_gate(_at(gate_up_TF), rows, width, GATE_KINDS[kind], _at(y_TF))
        return y_TF

    def rotate_and_store(
        self,
        qkv_TX: Tensor,
        heads: Heads,
        positions_T: Tensor,
        cosine_PD: Tensor,
        sine_PD: Tensor,
        norms: tuple[Tensor, Tensor] | None,
        epsilon: float,
        slots_T: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> None:
        """Norm and rotate queries and keys in place; write keys and values to the cache."""
        q_norm, k_norm = norms if norms is not None else (None, None)
        self._library.mesh_rotate_and_store(
            _at(qkv_TX), qkv_TX.shape[0], heads.query, heads.key_value, heads.dim, _at(positions_T), _at(cosine_PD),
            _at(sine_PD), _at(q_norm), _at(k_norm), epsilon, _at(slots_T), _at(keys), _at(values),
        )  # fmt: skip

    def attend(
        self, qkv_TX: Tensor, heads: Heads, keys: Tensor, values: Tensor, chunks: Chunks, window: int, scaling: float
    ) -> Tensor:
        """[T, H * D]. `window`: how many tokens back a token sees, itself included; 0: all."""
        output_THD = torch.empty(qkv_TX.shape[0], heads.query * heads.dim)
        self._library.mesh_attend(
            _at(qkv_TX), _at(output_THD), heads.query, heads.key_value, heads.dim, _at(keys), _at(values),
            chunks.starts.shape[0], _at(chunks.begins), _at(chunks.starts), _at(chunks.tables),
            _at(chunks.table_begins), window, scaling,
        )  # fmt: skip
        return output_THD

    def reduce(self, logits_Rv: Tensor, first_id: int, layout: Layout) -> Tensor:
        """A rank's words (see `candidates`), of rows that may lie apart."""
        words_W = torch.empty(layout.word_count, dtype=torch.float64)
        ids_W, rests_W = words_W[layout.candidate_count :], words_W[2 * layout.candidate_count :]
        self._library.mesh_reduce(
            _at(logits_Rv), logits_Rv.shape[0], logits_Rv.shape[1], logits_Rv.stride(0), first_id,
            layout.counts_R.ctypes.data, layout.begins_R.ctypes.data, layout.temperatures_R.ctypes.data,
            _at(words_W), _at(ids_W), _at(rests_W),
        )  # fmt: skip
        return words_W


def native_product(weight: Int8Weight, bias_N: Tensor | None) -> NativeProduct:
    return NativeProduct(_at(weight.packed), _at(weight.scales), _at(bias_N), weight.output_count, weight.input_count)


def native_step(positions_T: Tensor, slots_T: Tensor, chunks: Chunks) -> NativeStep:
    return NativeStep(
        positions_T.shape[0], _at(positions_T), _at(slots_T), chunks.starts.shape[0], _at(chunks.begins),
        _at(chunks.starts), _at(chunks.tables), _at(chunks.table_begins),
    )  # fmt: skip


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
