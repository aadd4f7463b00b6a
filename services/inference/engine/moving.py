"""Small tensors made on the CPU go to the device without making the CPU wait for what the device still has to do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The same on the device. From pinned memory, since a copy from any other waits for all that was queued before."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def moved_together(tensors: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """Several of one number type and one dimension, in a single copy."""
    if device.type == "cpu":
        return tensors
    return torch.split(moved(torch.cat(list(tensors)), device), [len(tensor) for tensor in tensors])
