"""Attention over the paged cache, as the function that transformers' model definitions call in every layer.

Legend: T tokens of the step, H query heads, G key/value heads, D head dimension, B single-token chunks, Q tokens of a
prompt chunk, L cached tokens looked at. The model's own mask is switched off; `StepInput` knows who sees what.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface

from services.inference.engine.kv_cache import KvCache
from services.inference.engine.step_input import StepInput

NAME = "paged"


class UnsupportedAttention(Exception):
    """The model asks for a kind of attention that isn't built yet."""


def register() -> None:
    """Make `attn_implementation=NAME` known to transformers.

    No mask function goes with it: the models then make no mask, which would cost a wait for the device in each step.
    """
    AttentionInterface.register(NAME, attend)


def attend(
    module: nn.Module,
    query_1HTD: Tensor,
    key_1GTD: Tensor,
    value_1GTD: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    step: StepInput,
    kv_cache: KvCache,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Write this step's keys and values, then attend to all cached ones. Returns [1, T, H, D]."""
    if softcap is not None or s_aux is not None:
        raise UnsupportedAttention("attention with soft-capped scores or sink logits")
    query_THD = query_1HTD[0].transpose(0, 1)
    layer: int = module.layer_idx  # type: ignore[assignment]
    kv_cache.write(layer, step.slots_T, key_1GTD[0].transpose(0, 1), value_1GTD[0].transpose(0, 1))
    output_THD = query_THD.new_empty((*query_THD.shape[:-1], value_1GTD.shape[-1]))
    if step.singles_B.numel():
        output_THD[step.singles_B] = _singles(query_THD, step, kv_cache, layer, sliding_window, scaling)
    for prompt in step.prompts:
        view = step.view_of_prompt(prompt, sliding_window)
        keys_LGD, values_LGD = kv_cache.read(layer, view.slots)
        query_QHD = query_THD[prompt.begin : prompt.end]
        output_THD[prompt.begin : prompt.end] = _prompt(query_QHD, keys_LGD, values_LGD, view.mask, scaling)
    return output_THD[None], None


def _singles(
    query_THD: Tensor, step: StepInput, kv_cache: KvCache, layer: int, window: int | None, scaling: float
) -> Tensor:
    view = step.view_of_singles(window)
    keys_BLGD, values_BLGD = kv_cache.read(layer, view.slots)
    output_BH1D = nn.functional.scaled_dot_product_attention(
        query_THD[step.singles_B][:, :, None],
        keys_BLGD.transpose(1, 2),
        values_BLGD.transpose(1, 2),
        attn_mask=view.mask,
        scale=scaling,
        enable_gqa=True,
    )
    return output_BH1D[:, :, 0]


def _prompt(query_QHD: Tensor, keys_LGD: Tensor, values_LGD: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    output_1HQD = nn.functional.scaled_dot_product_attention(
        query_QHD.transpose(0, 1)[None],
        keys_LGD.transpose(0, 1)[None],
        values_LGD.transpose(0, 1)[None],
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=True,
    )
    return output_1HQD[0].transpose(0, 1)
