"""How ranks add up their partial results: DeepSpeed's shared-memory all-reduce, or gloo where it can't be had.

DeepSpeed compiles the all-reduce at first use. It reads LOCAL_SIZE (a world size that differs crashes it) and names its
segments under /dev/shm after MASTER_ADDR and MASTER_PORT, which are only a name here: ranks of one host meet through a
file, those of several through `nodes/meeting.py`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from services.inference.engine.nodes import meeting
from services.inference.engine.options import EngineOptions
from services.inference.models.errors import ModelError

if TYPE_CHECKING:
    import torch

SHM_BYTES_PER_RANK = 70 * 1024 * 1024  # allreduce_workspace in DeepSpeed's csrc/cpu/comm/shm.cpp, rounded up
_SHM_FOLDER = Path("/dev/shm")
_TIMEOUT = timedelta(seconds=120)


def prepare_environment(options: EngineOptions, threads: int) -> None:
    """Set what torch, gloo, NCCL and DeepSpeed read from the environment; before any of them is imported."""
    os.environ.update(
        RANK=str(options.rank),
        WORLD_SIZE=str(options.tensor_parallel_size),
        LOCAL_RANK=str(options.local_rank),
        LOCAL_SIZE=str(options.local_size),
        MASTER_ADDR="mesh",
        MASTER_PORT=Path(options.rendezvous).name or "0",
        OMP_NUM_THREADS=str(threads),
        DS_ACCELERATOR=options.device,
        TORCH_EXTENSIONS_DIR=str(options.cache_dir.absolute() / "torch_extensions"),
        HF_HUB_OFFLINE="1",
    )
    if options.nodes == 1:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    else:
        meeting.use_interface(options.interface)


def use_device(options: EngineOptions) -> torch.device:
    """Where this rank computes: on a GPU host its own, which is also made the default. Raises ModelError."""
    import torch

    if options.device != "cuda":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if options.local_rank >= count:
        problem = f"{options.local_size} ranks on this host need as many GPUs; torch {torch.__version__} sees {count}"
        raise ModelError(problem, 'Set engine.tensor_parallel_size, or engine.device = "cpu".')
    device = torch.device("cuda", options.local_rank)
    torch.cuda.set_device(device)
    return device


def why_not_shm(size: int) -> str | None:
    """Build and load the shared-memory all-reduce. None if it can be used, else the reason."""
    free = shutil.disk_usage(_SHM_FOLDER).free if _SHM_FOLDER.is_dir() else 0
    if free < size * SHM_BYTES_PER_RANK:
        return f"/dev/shm has {free >> 20} MiB free, {size * SHM_BYTES_PER_RANK >> 20} are needed"
    try:
        _load_shm_op_in_turn()
    except Exception as error:
        return f"the all-reduce could not be built ({type(error).__name__}); it needs g++ and Python's headers"
    return None


def join(options: EngineOptions, all_reduce: str) -> None:
    """Meet the other ranks; returns when all are there."""
    import deepspeed
    import torch.distributed

    rank, size, backend = options.rank, options.tensor_parallel_size, "nccl" if all_reduce == "nccl" else "gloo"
    if all_reduce == "shm":
        _load_shm_op_in_turn()  # here, since DeepSpeed would wait for ever for a lock that a killed rank left
    else:
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if options.rendezvous.startswith(meeting.SCHEME):
        meeting.meet(rank, size, options.rendezvous, backend, store_fd=options.store_fd, timeout=_TIMEOUT)
    deepspeed.init_distributed(
        dist_backend=backend,
        verbose=False,
        timeout=_TIMEOUT,
        init_method=f"file://{options.rendezvous}",
        rank=rank,
        world_size=size,
    )
    torch.distributed.barrier()
    if rank == 0:
        _unlink_segments()


def all_reduce(part: torch.Tensor) -> None:
    """Replace every rank's part by the sum of all parts; returns when it is there."""
    import deepspeed.comm

    deepspeed.comm.inference_all_reduce(part)


def make_gather(device: torch.device) -> Callable[[torch.Tensor, list[torch.Tensor]], None]:
    """A function that fills the list on rank 0 with the parts of all ranks, all on the CPU; the others pass none."""
    import torch
    import torch.distributed

    def gather(part: torch.Tensor, parts: list[torch.Tensor]) -> None:
        if device.type == "cpu":
            torch.distributed.gather(part, parts or None, dst=0)
            return
        arrived = [torch.empty_like(into, device=device) for into in parts]
        torch.distributed.gather(part.to(device), arrived or None, dst=0)
        for into, there in zip(parts, arrived, strict=True):
            into.copy_(there)

    return gather


def all_agree(is_so: bool) -> bool:
    """Whether it is so on every rank; the same answer on all of them."""
    import torch

    doubts = torch.full((16,), 0.0 if is_so else 1.0)
    all_reduce(doubts)
    return bool(doubts[0] == 0)


def make_fence(device: torch.device) -> Callable[[], None]:
    """A function that returns once all ranks have called it."""
    import torch

    token = torch.zeros(16, device=device)

    def fence() -> None:
        all_reduce(token)
        token[0].item()  # on a GPU the call above only queues

    return fence


def _load_shm_op_in_turn() -> None:
    """A second call in a process costs nothing."""
    with _one_builder_at_a_time():
        _load_shm_op()


def _load_shm_op() -> None:
    from deepspeed.ops.op_builder.cpu.comm import ShareMemCommBuilder

    builder = ShareMemCommBuilder()
    if not builder.is_compatible(False):
        raise RuntimeError(builder.error_log)
    builder.load(verbose=False)


@contextmanager
def _one_builder_at_a_time() -> Iterator[None]:
    """Torch's own lock is a file that a killed build leaves behind for ever; ours ends with the process."""
    folder = Path(os.environ["TORCH_EXTENSIONS_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "mesh.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in folder.glob("deepspeed_shm_comm*/lock"):
            stale.unlink()
        yield


def _unlink_segments() -> None:
    """All ranks have mapped the segments; without a name they vanish with the last process."""
    name = f"deepspeed_allreduce_buffer_{os.getuid()}_{os.environ['MASTER_ADDR']}_{os.environ['MASTER_PORT']}_*"
    for segment in _SHM_FOLDER.glob(name):
        segment.unlink()
