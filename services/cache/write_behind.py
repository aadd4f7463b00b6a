"""Writes to a slow tier off the path of requests: a bounded queue, one writer; what does not fit is dropped."""

from __future__ import annotations

import asyncio

from services.cache.entry import Entry
from services.cache.tier import Store, TierUnavailable


class WriteBehind:
    """Offers entries to a store. `run` must run for anything to be written."""

    def __init__(self, store: Store, *, max_entries: int, max_bytes: int) -> None:
        self.failed_count = 0
        """Writes that were dropped or failed."""
        self._store = store
        self._max_bytes = max_bytes
        self._waiting_bytes = 0
        self._waiting: asyncio.Queue[tuple[bytes, Entry]] = asyncio.Queue(max_entries)

    def offer(self, key: bytes, entry: Entry) -> bool:
        """Queue a write; False where the queue is full."""
        if self._waiting.full() or self._waiting_bytes + entry.size_bytes > self._max_bytes:
            self.failed_count += 1
            return False
        self._waiting_bytes += entry.size_bytes
        self._waiting.put_nowait((key, entry))
        return True

    async def run(self) -> None:
        """Write what is queued, one after the other. Runs until cancelled."""
        while True:
            key, entry = await self._waiting.get()
            try:
                await self._store.put(key, entry)
            except TierUnavailable:
                self.failed_count += 1
            finally:
                self._waiting_bytes -= entry.size_bytes
                self._waiting.task_done()

    async def flush(self) -> None:
        """Return once everything queued has been written or has failed."""
        await self._waiting.join()
