"""Real tiers of a given size: memory, a Valkey server, a file on the disk of the temporary folder."""

from __future__ import annotations

import asyncio
import contextlib
import math
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

from meshkit.clock import SystemClock
from meshkit.testing.valkey import valkey_server
from services.cache.disk.schema import JOURNAL_BYTES
from services.cache.disk.tier import DiskTier
from services.cache.lifetime import TierLifetime
from services.cache.memory_tier import MemoryTier
from services.cache.settings import L2Settings, L3Settings
from services.cache.valkey_tier import ValkeyTier

T = TypeVar("T", ValkeyTier, DiskTier)

EMPTY_SERVER_BYTES = 1_500_000
"""What the server uses before it holds anything; comes on top of a budget."""
FEWEST_BYTES = 2**21
PATIENCE_S = 20.0


def memory(budget_bytes: int) -> MemoryTier:
    """Of this process."""
    return MemoryTier(budget_bytes=budget_bytes, lifetime=TierLifetime(ttl_s=math.inf), clock=SystemClock())


@contextlib.asynccontextmanager
async def server(budget_bytes: int) -> AsyncIterator[ValkeyTier]:
    """On a Valkey server of its own. Time-outs are long: here hits count, not speed."""
    async with valkey_server(memory_bytes=EMPTY_SERVER_BYTES + budget_bytes) as process:
        settings = L2Settings(url=process.url, timeout_s=10.0, write_timeout_s=10.0)
        async with _watched(ValkeyTier(settings, TierLifetime(ttl_s=math.inf), SystemClock())) as tier:
            yield tier


@contextlib.asynccontextmanager
async def disk(budget_bytes: int, *, timeout_s: float = 10.0) -> AsyncIterator[DiskTier]:
    """In a folder of its own; its journal comes on top of the budget."""
    # At the smallest size of a benchmark the least that the settings allow is more.
    whole_bytes = max(budget_bytes, FEWEST_BYTES) + JOURNAL_BYTES
    settings = L3Settings(budget_bytes=whole_bytes, min_free_bytes=0, timeout_s=timeout_s)
    with tempfile.TemporaryDirectory(prefix="mesh-l3-") as folder:
        async with _watched(DiskTier(Path(folder) / "l3", settings, SystemClock())) as tier:
            yield tier


@contextlib.asynccontextmanager
async def _watched(tier: T) -> AsyncIterator[T]:
    watching = asyncio.create_task(tier.watch())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not tier.is_available:
                await asyncio.sleep(0.01)
        yield tier
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await tier.close()
