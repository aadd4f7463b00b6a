"""Will the model and its KV cache fit? Estimated before anything is allocated.

kv_bytes     = 2 * layers * kv_heads * head_dim * bytes_per_element * kv_tokens      (all ranks together)
weight_bytes = parameters * bytes_per_element     (all ranks together; embeddings are kept whole by every rank,
                                                   but mapped from the same file)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.inference.models.errors import ModelError

_CGROUP = Path("/sys/fs/cgroup")
_RESERVE_BYTES = 512 * 1024 * 1024  # per rank: interpreter, libraries, activations


def kv_bytes(text_config: Any, kv_tokens: int, element_bytes: int) -> int:
    heads = getattr(text_config, "num_key_value_heads", None) or text_config.num_attention_heads
    head_dim = getattr(text_config, "head_dim", None) or text_config.hidden_size // text_config.num_attention_heads
    return int(2 * text_config.num_hidden_layers * heads * head_dim * element_bytes * kv_tokens)


def require_memory(*, weight_bytes: int, kv_cache_bytes: int, rank_count: int) -> None:
    """Raise ModelError if the estimate exceeds what this machine (or container) has available."""
    needed = weight_bytes + kv_cache_bytes + rank_count * _RESERVE_BYTES
    available = available_bytes()
    if needed <= available:
        return
    raise ModelError(
        f"the model needs about {_gib(needed)} ({_gib(weight_bytes)} weights, {_gib(kv_cache_bytes)} KV cache), "
        f"{_gib(available)} are available",
        "Lower the KV cache's token count, choose a smaller model or a smaller dtype, or free memory.",
    )


def available_bytes() -> int:
    """The lesser of the machine's available memory and what the control group still allows."""
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(meminfo["MemAvailable"].split()[0]) * 1024
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return available
    return min(available, max(limit - used, 0))


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
