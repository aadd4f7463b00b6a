"""What kernels that run half a layer are told: C structures, in the order of half_layers.h.

They point into tensors, which whoever makes them must keep. An address of None is a null pointer.
"""

from __future__ import annotations

import ctypes

_P, _I, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class NativeProduct(ctypes.Structure):
    """Product in half_layers.h."""

    _fields_ = (("packed", _P), ("scales", _P), ("bias", _P), ("outputs", _I), ("inputs", _I))


class NativeAttentionHalf(ctypes.Structure):
    """AttentionHalf in half_layers.h."""

    _fields_ = (
        ("norm", _P), ("query_key_value", NativeProduct), ("output", NativeProduct),
        ("heads", _I), ("kv_heads", _I), ("dim", _I),
        ("cosine", _P), ("sine", _P), ("query_norm", _P), ("key_norm", _P),
        ("window", _I), ("epsilon", _F), ("head_epsilon", _F), ("scaling", _F),
    )  # fmt: skip


class NativeFeedHalf(ctypes.Structure):
    """FeedHalf in half_layers.h."""

    _fields_ = (("norm", _P), ("gate_up", NativeProduct), ("down", NativeProduct), ("activation", _I), ("epsilon", _F))


class NativeStep(ctypes.Structure):
    """Step in half_layers.h."""

    _fields_ = (
        ("token_count", _I), ("positions", _P), ("slots", _P),
        ("chunk_count", _I), ("begins", _P), ("starts", _P), ("tables", _P), ("table_begins", _P),
    )  # fmt: skip
