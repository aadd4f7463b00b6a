"""Which matrix products one step of a decoder needs, from its configuration: fused where the inputs are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple


class Product(NamedTuple):
    """So many `times`, [rows, inputs] with weights [outputs, inputs]."""

    outputs: int
    inputs: int
    times: int


def products_of(model_dir: Path, shares: int) -> list[Product]:
    """One rank's share: queries, keys and values; attention output; gate and up; down; the output head."""
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config") or config
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    queries, both = _attention_widths(config)
    share = lambda whole: -(-whole // shares)  # noqa: E731 - a name for one expression
    return [
        Product(share(queries) + share(both), hidden, layers),
        Product(hidden, share(queries), layers),
        Product(2 * share(inner), hidden, layers),
        Product(hidden, share(inner), layers),
        Product(share(config["vocab_size"]), hidden, 1),
    ]


def _attention_widths(config: dict[str, Any]) -> tuple[int, int]:
    """Width of the queries, and of keys and values together."""
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    return heads * width, 2 * (config.get("num_key_value_heads") or heads) * width
