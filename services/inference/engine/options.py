"""The engine process's command line: written by the RPC process, never by a person."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Everything that an engine is told at start; the same on all ranks but for `rank` and the descriptors."""

    fd: int  # this rank's line: to the RPC process on rank 0, to rank 0 on the others
    model_dir: Path
    tensor_parallel_size: int = 1
    dtype: str = "float32"  # of what is loaded
    quantization: str = "none"  # or "int8": of what is multiplied
    device: str = "cpu"
    kv_tokens: int = 0  # 0: as many as the share of the memory holds
    memory_share: float = 0.0  # 0: see `pool_size`
    context_tokens: int = 0  # of the longest sequence; 0: the model's
    max_sequences: int = 64
    step_tokens: int = 512
    ageing_s: float = 5.0
    batching_window_s: float = 0.0
    output_reserve_tokens: int = 0  # 0: as many as max_tokens
    prefix_cache: str = "on"  # or "off"
    threads: int = 0  # per rank; 0: an even share of the cores that this process may use
    all_reduce: str = "auto"  # "shm" where it can be built, else "gloo"
    cache_dir: Path = Path(".cache")
    rank: int = 0
    board_fd: int = -1
    rendezvous: str = ""  # a file's path; with several nodes tcp://HOST:PORT
    parent_pid: int = 0
    nodes: int = 1  # hosts that share the model, as many ranks on each
    node_rank: int = 0
    revision: str = ""  # of the weights
    listen: str = ""  # on node 0: HOST:PORT where the others come in
    secret_file: Path = Path()
    join_timeout_s: float = 300.0
    node_silence_s: float = 3.0
    interface: str = ""  # over which ranks on other nodes are reached
    store_fd: int = -1  # on rank 0: a listening socket for torch's store

    @property
    def local_size(self) -> int:
        """Ranks on each node."""
        return self.tensor_parallel_size // self.nodes

    @property
    def local_rank(self) -> int:
        """Number among the ranks of this node: which GPU, which share of the cores."""
        return self.rank % self.local_size

    @property
    def logit_rows(self) -> int:
        return self.max_sequences + 48


def as_arguments(options: EngineOptions) -> list[str]:
    """The command line that `parse` turns into `options` again."""
    arguments: list[str] = []
    for name, value in asdict(options).items():
        arguments += [_flag(name), str(value)]
    return arguments


def parse(arguments: list[str]) -> EngineOptions:
    parser = argparse.ArgumentParser(prog="python -m services.inference.engine", description=__doc__)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--model-dir", type=Path, required=True)
    defaults = asdict(EngineOptions(fd=0, model_dir=Path()))
    for name, default in defaults.items():
        if name not in ("fd", "model_dir"):
            kind = Path if isinstance(default, Path) else type(default)
            parser.add_argument(_flag(name), type=kind, default=default)
    return EngineOptions(**vars(parser.parse_args(arguments)))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
