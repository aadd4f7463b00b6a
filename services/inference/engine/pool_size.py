"""How many tokens the KV cache holds: as many as its deployer says, or what a share of this rank's memory holds.

On a processor the ranks of a host share its memory, and the share is taken of what is available beside the weights. The
cache's tensors are reserved, not touched: memory goes as blocks are first used. On a GPU each rank has a device,
and from the share of all its memory come off the weights, the activations and what others use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.inference.engine import memory
from services.inference.engine.available import available_bytes
from services.inference.engine.blocks import BLOCK_TOKENS
from services.inference.engine.memory import RANK_BYTES, WeightBytes
from services.inference.engine.options import EngineOptions
from services.inference.models.errors import ModelError

HOST_SHARE, DEVICE_SHARE = 0.25, 0.9
UNSTATED_CONTEXT_TOKENS = 8192  # of a model whose configuration doesn't say
LEAST_TOKENS = 2048  # where nobody has asked for a whole context
_SMALLER = "Choose a smaller model or a smaller engine.dtype, or free memory."
_LESS_CACHE = f"Lower engine.kv_tokens, the KV cache's token count, or let it be 0. {_SMALLER}"
_MORE_CACHE = f"Lower engine.context_tokens, or raise engine.memory_share or engine.kv_tokens. {_SMALLER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSize:
    """What a rank can hold."""

    kv_tokens: int
    context_tokens: int  # the longest sequence, prompt and output together


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A memory, what has to be in it, and what one token's keys and values take there."""

    available: int
    weights: WeightBytes
    others: int
    token_bytes: int

    @property
    def beside_model(self) -> int:
        return self.available - self.weights.serving - self.others


def size_pool(options: EngineOptions) -> PoolSize:
    """Decided by each rank for its own memory; the least counts. Raises ModelError where the model doesn't fit."""
    from services.inference.engine.config import load_config

    config = load_config(options.model_dir).get_text_config()
    context = options.context_tokens or getattr(config, "max_position_embeddings", 0) or UNSTATED_CONTEXT_TOKENS
    is_device = options.device == "cuda"
    space = _device_space(options, config) if is_device else _host_space(options, config)
    if options.kv_tokens:
        require_room(space, options.kv_tokens)
        return PoolSize(kv_tokens=options.kv_tokens, context_tokens=min(context, options.kv_tokens))
    share = options.memory_share or (DEVICE_SHARE if is_device else HOST_SHARE)
    # A device's share is of all of it, so that it is the same whoever else is there.
    budget = space.beside_model - int((1 - share) * space.available) if is_device else int(share * space.beside_model)
    least = options.context_tokens or min(context, LEAST_TOKENS)
    kv_tokens = fitting_tokens(space, budget, least=least, most=max(least, options.max_sequences * context))
    return PoolSize(kv_tokens=kv_tokens, context_tokens=min(context, kv_tokens))


def fitting_tokens(space: Space, budget_bytes: int, *, least: int, most: int) -> int:
    """As many as the budget holds, in whole blocks, at most `most`; raises ModelError where those are under `least`."""
    require_room(space, 0)
    count = min(budget_bytes // space.token_bytes // BLOCK_TOKENS, -(-most // BLOCK_TOKENS)) * BLOCK_TOKENS
    if count < least:
        problem = (
            f"the KV cache's share, {_gib(max(0, budget_bytes))} of the {_gib(space.available)} that are available, "
            f"holds {max(0, count)} tokens; a sequence may need {least}"
        )
        raise ModelError(problem, _MORE_CACHE)
    return count


def require_room(space: Space, kv_tokens: int) -> None:
    """Raise ModelError where the model, or the model with a cache of this size, is larger than the memory."""
    kv, model = kv_tokens * space.token_bytes, space.weights
    if model.starting + space.others > space.available:
        _refuse(model.starting + space.others, f"{_gib(model.starting)} weights while it starts", space, _SMALLER)
    if kv > space.beside_model:
        needed = model.serving + space.others + kv
        _refuse(needed, f"{_gib(model.serving)} weights, {_gib(kv)} KV cache", space, _LESS_CACHE)


def _host_space(options: EngineOptions, config: Any) -> Space:
    """Of the ranks of this host together."""
    import torch

    rank_count, element_bytes = options.local_size, getattr(torch, options.dtype).itemsize
    contents = memory.read_contents(options.model_dir, config, options.dtype)
    return Space(
        available=available_bytes(),
        weights=memory.weight_bytes(
            contents,
            element_bytes=element_bytes,
            is_int8=options.quantization == "int8",
            rank_count=rank_count,
            host_count=options.nodes,
        ),
        others=rank_count * RANK_BYTES + _logit_bytes(options, config),
        token_bytes=memory.kv_bytes(config, 1, element_bytes, options.nodes),
    )


def _device_space(options: EngineOptions, config: Any) -> Space:
    """Of this rank's own device."""
    import torch

    size, element_bytes = options.tensor_parallel_size, getattr(torch, options.dtype).itemsize
    contents = memory.read_contents(options.model_dir, config, options.dtype)
    own = (contents.layer_count // size + contents.whole_count) * element_bytes
    free, total = torch.cuda.mem_get_info(options.local_rank)
    return Space(
        available=total,
        weights=WeightBytes(starting=own, serving=own),
        others=total - free + RANK_BYTES + 2 * _logit_bytes(options, config),
        token_bytes=memory.kv_bytes(config, 1, element_bytes, size),
    )


def _logit_bytes(options: EngineOptions, config: Any) -> int:
    return int(options.logit_rows * config.vocab_size * 4)


def _refuse(needed: int, parts: str, space: Space, advice: str) -> None:
    problem = f"the model needs about {_gib(needed)} ({parts}), {_gib(space.available)} are available"
    raise ModelError(problem, advice)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
