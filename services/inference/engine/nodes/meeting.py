"""How ranks on several hosts meet: a key-value store of torch's that listens beside rank 0, on one address only.

The store knows no secret: whoever reaches its port can read and change what ranks tell each other about their
addresses. It carries no pickled objects, and neither do the collectives that the engine uses.
"""

from __future__ import annotations

import os
from datetime import timedelta
from urllib.parse import urlsplit

SCHEME = "tcp://"


def use_interface(name: str) -> None:
    """Have gloo and NCCL talk over this network interface, unless the operator's environment names another."""
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def meet(rank: int, size: int, url: str, backend: str, *, store_fd: int, timeout: timedelta) -> None:
    """Join torch's process group; returns when all ranks have. `store_fd` is rank 0's listening socket."""
    import torch
    import torch.distributed
    from torch._C._distributed_c10d import TCPStore

    place = urlsplit(url)
    store = TCPStore(
        place.hostname or "",
        place.port or 0,
        world_size=size,
        is_master=rank == 0,
        timeout=timeout,
        wait_for_workers=False,
        master_listen_fd=store_fd if rank == 0 else None,
    )
    device = torch.device("cuda", torch.cuda.current_device()) if backend == "nccl" else None
    torch.distributed.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=timeout, device_id=device
    )
