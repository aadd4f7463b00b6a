"""What a model takes, estimated from its files before anything is allocated. Bytes of all ranks of one host together.

Weights that the files hold in the wished number type are mapped, so all ranks share what they keep whole (embeddings,
the head's float weights). Others are converted, and each rank has a copy of its own. Several ranks copy the layers'
weights once, each its shard; the files' own pages can then be given up. 8-bit weights are made beside the float ones,
and are all that stays of the layers.

kv_bytes = 2 * layers * kv_heads * head_dim * bytes_per_element * tokens
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.inference.models.checkpoint import require_weights
from services.inference.models.safetensors_files import read_header

RANK_BYTES = 512 * 1024 * 1024  # interpreter, libraries, tables of positions, activations
_INT8_BYTES = 1 + 4 / 256  # a weight, and its part of a scale
_LAYERS = ".layers."
_FILE_TYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a checkpoint's files hold, in numbers."""

    layer_count: int  # elements of the layers, which ranks share
    whole_count: int  # all others, which every rank keeps
    head_count: int  # elements of the output head
    is_converted: bool  # some are stored in another number type than they are used in


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightBytes:
    """The most while the engine starts, and what stays."""

    starting: int
    serving: int


def read_contents(model_dir: Path, text_config: Any, dtype: str) -> Contents:
    """Raises ModelError where there are no weights, or a file is not whole."""
    counts, types = {True: 0, False: 0}, set()
    for file in require_weights(model_dir):
        for name, tensor in read_header(file).items():
            if name != "__metadata__":
                counts[_LAYERS in name] += math.prod(tensor["shape"])
                types.add(tensor["dtype"])
    return Contents(
        layer_count=counts[True],
        whole_count=counts[False],
        head_count=text_config.vocab_size * text_config.hidden_size,
        is_converted=bool(types - {_FILE_TYPES[dtype]}),
    )


def weight_bytes(
    contents: Contents, *, element_bytes: int, is_int8: bool, rank_count: int, host_count: int = 1
) -> WeightBytes:
    """Of one host with `rank_count` ranks, where as many run on each of `host_count`."""
    copies = rank_count if contents.is_converted else 1
    whole, layers = copies * contents.whole_count * element_bytes, contents.layer_count * element_bytes
    own_layers = layers // host_count
    packed = int((contents.layer_count + contents.head_count) * _INT8_BYTES) // host_count if is_int8 else 0
    return WeightBytes(
        starting=whole + max(copies * layers, own_layers + packed),
        serving=whole + (packed if is_int8 else own_layers),
    )


def kv_bytes(text_config: Any, token_count: int, element_bytes: int, rank_count: int = 1) -> int:
    """Of one rank, where `rank_count` share the heads."""
    heads = getattr(text_config, "num_key_value_heads", None) or text_config.num_attention_heads
    head_dim = getattr(text_config, "head_dim", None) or text_config.hidden_size // text_config.num_attention_heads
    own_heads = -(-heads // rank_count)
    return int(2 * text_config.num_hidden_layers * own_heads * head_dim * element_bytes * token_count)
