"""From a checkpoint's directory to this rank's part of the model, ready to run plans.

Weights are mapped from safetensors: what stays whole on every rank (embeddings) is in memory once. The output head is
split by vocabulary before DeepSpeed's AutoTP splits the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from services.inference.engine import attention
from services.inference.engine.config import ADVICE, first_line
from services.inference.engine.vocabulary import VocabularySlice
from services.inference.models.errors import ModelError


def load_whole_model(model_dir: Path, dtype: torch.dtype) -> nn.Module:
    """The unsharded model with paged attention. Raises ModelError."""
    transformers_logging.disable_progress_bar()
    attention.register()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model_dir,
            dtype=dtype,
            attn_implementation=attention.NAME,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the checkpoint in {model_dir} can't be loaded: {first_line(error)}", ADVICE) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(f"the checkpoint in {model_dir} lacks {len(missing)} tensors, such as {missing[0]}", ADVICE)
    whole: nn.Module = model
    return whole.eval().requires_grad_(False)


def shard(model: Any, dtype: torch.dtype, rank: int, size: int) -> nn.Module:
    """Keep this rank's share of every layer and of the vocabulary; the world has been joined already."""
    if size == 1:
        return model
    import deepspeed

    model.set_output_embeddings(VocabularySlice(model.get_output_embeddings(), rank, size))
    engine = deepspeed.init_inference(
        model, tensor_parallel={"tp_size": size}, dtype=dtype, replace_with_kernel_inject=False
    )
    return engine.module
