"""From settings to the engine's command line: how many ranks, on which device, with which numbers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.inference.engine.options import EngineOptions, as_arguments
from services.inference.engine_process import EngineProcess, spawn
from services.inference.nodes_settings import NodesSettings
from services.inference.settings import EngineSettings

ENGINE_MODULE = "services.inference.engine"
_AUTO_RANKS = 2


def engine_launcher(
    settings: EngineSettings,
    model_dir: Path,
    cache_dir: Path,
    *,
    nodes: NodesSettings | None = None,
    revision: str = "",
) -> Callable[[], Awaitable[EngineProcess]]:
    """What starts one engine life each time it is called."""

    def command(fd: int) -> list[str]:
        return [
            sys.executable,
            "-m",
            ENGINE_MODULE,
            *as_arguments(engine_options(settings, model_dir, cache_dir, fd=fd, nodes=nodes, revision=revision)),
        ]

    return lambda: spawn(command)


def engine_options(
    settings: EngineSettings,
    model_dir: Path,
    cache_dir: Path,
    *,
    fd: int,
    nodes: NodesSettings | None = None,
    revision: str = "",
) -> EngineOptions:
    """The engine's options with every `auto` decided."""
    device = choose_device(settings.device)
    parts = gpu_count() if device == "cuda" else len(os.sched_getaffinity(0))
    nodes = nodes or NodesSettings()
    auto_size = nodes.count if nodes.count > 1 else choose_rank_count(parts, attention_head_count(model_dir))
    return EngineOptions(
        fd=fd,
        model_dir=model_dir,
        tensor_parallel_size=settings.tensor_parallel_size or auto_size,
        dtype=choose_dtype(settings.dtype, device),
        quantization="int8" if settings.dtype == "int8" else "none",
        device=device,
        kv_tokens=settings.kv_tokens,
        memory_share=settings.memory_share,
        context_tokens=settings.context_tokens,
        max_sequences=settings.max_sequences,
        step_tokens=settings.step_tokens,
        ageing_s=settings.ageing_s,
        batching_window_s=settings.batching_window_s,
        output_reserve_tokens=settings.output_reserve_tokens,
        prefix_cache=settings.prefix_cache,
        threads=settings.threads_per_rank,
        cache_dir=cache_dir,
        parent_pid=os.getpid(),
        nodes=nodes.count,
        node_rank=nodes.rank,
        revision=revision,
        listen=str(nodes.listen_address),
        secret_file=nodes.secret_file or Path(),
        join_timeout_s=nodes.join_timeout_s,
        node_silence_s=nodes.silence_s,
    )


def choose_device(wished: str) -> str:
    """cuda where there is a GPU, unless the settings say otherwise."""
    return wished if wished != "auto" else "cuda" if gpu_count() else "cpu"


def choose_dtype(wished: str, device: str) -> str:
    """What weights are loaded as. bfloat16 is emulated, and slow, on most processors; int8 is made from float32."""
    if wished == "int8":
        return "float32"
    return wished if wished != "auto" else "bfloat16" if device == "cuda" else "float32"


def choose_rank_count(parts: int, head_count: int) -> int:
    """Two ranks where there are two cores or GPUs and the attention heads can be halved."""
    rank_count = min(_AUTO_RANKS, parts)
    return rank_count if rank_count > 1 and head_count % rank_count == 0 else 1


def attention_head_count(model_dir: Path) -> int:
    """Of the text model; 1 where the configuration doesn't say."""
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    return int(config.get("num_attention_heads", 1))


def gpu_count() -> int:
    """NVIDIA devices that this process can open, without loading a driver library."""
    return sum(1 for path in Path("/dev").glob("nvidia[0-9]*") if os.access(path, os.R_OK | os.W_OK))
