"""From a transformers model to a LeanModel: which models are known, and where each keeps its parts.

The weights are taken as AutoTP has sharded them: how many heads this rank has follows from their shapes, and what
must be summed over the ranks from the kind of the module. What isn't known is refused, and the
stock definition runs instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from services.inference.engine.kernels.native import GATE_KINDS, Heads, Kernels
from services.inference.engine.lean.dense import DenseAttention, DenseFeed, DenseProduct
from services.inference.engine.lean.model import AllReduce, Layer, LeanModel, Norm, Rotary

MODEL_TYPES = {"llama", "mistral", "qwen2", "qwen3", "gemma3_text"}
_FIXED_ROTARY = {"default", "linear", "llama3", "yarn"}  # the others' angles depend on the sequence's length


class NotLean(Exception):
    """The fast path does not know this model; the text says why."""


def adopt(model: Any, kernels: Kernels, all_reduce: AllReduce, *, position_count: int) -> LeanModel:
    """The model's own weights behind the fast path's forward pass. Raises NotLean."""
    config = model.config.get_text_config()
    if config.model_type not in MODEL_TYPES:
        raise NotLean(f"the fast path does not know models of type {config.model_type}")
    stack = model.model
    rotary = _rotary_tables(stack, config, position_count)
    return LeanModel(
        kernels=kernels,
        all_reduce=all_reduce,
        embed=stack.embed_tokens,
        layers=tuple(_layer(layer, config, rotary, kernels) for layer in stack.layers),
        final_norm=_norm(stack.norm),
        head=_dense(model.get_output_embeddings()),
    )


def _layer(layer: Any, config: Any, rotary: dict[str | None, Rotary], kernels: Kernels) -> Layer:
    attention, feed = layer.self_attn, layer.mlp
    has_outer_norms = hasattr(layer, "pre_feedforward_layernorm")
    feed_norm = layer.pre_feedforward_layernorm if has_outer_norms else layer.post_attention_layernorm
    half = _attention(attention, _norm(layer.input_layernorm), config, rotary, kernels)
    return Layer(
        heads=half.heads,
        attention=half,
        sums_attention=_is_summed(attention.o_proj),
        attention_output_norm=_norm(layer.post_attention_layernorm) if has_outer_norms else None,
        feed=DenseFeed(
            kernels=kernels,
            norm=_norm(feed_norm),
            gate_up=_dense(feed.gate_proj, feed.up_proj),
            activation=_activation(config),
            down=_dense(feed.down_proj),
        ),
        sums_feed=_is_summed(feed.down_proj),
        feed_output_norm=_norm(layer.post_feedforward_layernorm) if has_outer_norms else None,
    )


def _attention(
    attention: Any, norm: Norm, config: Any, rotary: dict[str | None, Rotary], kernels: Kernels
) -> DenseAttention:
    return DenseAttention(
        kernels=kernels,
        norm=norm,
        heads=_heads(attention, int(attention.head_dim)),
        rotary=rotary.get(getattr(attention, "layer_type", None)) or rotary[None],
        head_norms=(_norm(attention.q_norm), _norm(attention.k_norm)) if hasattr(attention, "q_norm") else None,
        window=_window(attention, config),
        scaling=float(attention.scaling),
        query_key_value=_dense(attention.q_proj, attention.k_proj, attention.v_proj),
        output=_dense(attention.o_proj),
    )


def _heads(attention: Any, dim: int) -> Heads:
    query, key_value = attention.q_proj.weight.shape[0] // dim, attention.k_proj.weight.shape[0] // dim
    # Where there are fewer key/value heads than ranks, AutoTP leaves some ranks without any head.
    fits = query % key_value == 0 if key_value else query == 0
    if dim % 16 or not fits:
        raise NotLean(f"{query} query heads over {key_value} key/value heads of {dim} numbers")
    if getattr(attention, "attn_logit_softcapping", None) is not None:
        raise NotLean("attention with soft-capped scores")
    return Heads(query=query, key_value=key_value, dim=dim)


def _window(attention: Any, config: Any) -> int:
    """Qwen and Gemma decide layer by layer, Mistral once for all."""
    if hasattr(attention, "sliding_window"):
        return int(attention.sliding_window or 0)
    return int(config.sliding_window or 0) if config.model_type == "mistral" else 0


def _activation(config: Any) -> str:
    name = str(getattr(config, "hidden_activation", None) or config.hidden_act)
    if name not in GATE_KINDS:
        raise NotLean(f"activation {name}")
    return name


def _norm(module: Any) -> Norm:
    epsilon = float(getattr(module, "variance_epsilon", getattr(module, "eps", 0.0)))
    weight_E = module.weight.detach().float()
    # Gemma's weights are what is added to one.
    return Norm(weight_E=weight_E + 1.0 if type(module).__name__.startswith("Gemma") else weight_E, epsilon=epsilon)


def _dense(*modules: Any) -> DenseProduct:
    parts = []
    for module in modules:
        weight, bias = module.weight.detach(), None if module.bias is None else module.bias.detach()
        if weight.dtype != torch.float32 or weight.shape[1] % 2:
            raise NotLean(f"weights of type {weight.dtype} and shape {tuple(weight.shape)}")
        if bias is not None and _is_summed(module):
            raise NotLean("a bias behind a sum over ranks")
        parts.append((weight, bias))
    return DenseProduct(tuple(parts))


def _is_summed(module: Any) -> bool:
    """AutoTP splits such a layer by its inputs, so every rank has a part of each output."""
    return type(module).__name__ == "LinearAllreduce"


def _rotary_tables(stack: Any, config: Any, position_count: int) -> dict[str | None, Rotary]:
    """By layer type where angles differ between them, else under None; made by the model's own code."""
    module = stack.rotary_emb
    kinds = module.rope_type if isinstance(module.rope_type, dict) else {None: module.rope_type}
    if unknown := set(kinds.values()) - _FIXED_ROTARY:
        raise NotLean(f"rotary positions of kind {', '.join(sorted(unknown))}")
    positions_1P, like = torch.arange(position_count)[None], torch.zeros(1)
    tables: dict[str | None, Rotary] = {}
    for kind in kinds:
        cosine, sine = module(like, positions_1P) if kind is None else module(like, positions_1P, kind)
        tables[kind] = Rotary(cosine_PD=_table(cosine, config), sine_PD=_table(sine, config))
    return tables


def _table(values_1PD: Tensor, config: Any) -> Tensor:
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if values_1PD.shape[-1] != dim:
        raise NotLean("rotary positions over a part of each head")
    return values_1PD[0].float().contiguous()
