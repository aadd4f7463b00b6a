"""A value that many may watch; a slow watcher misses changes in between and never holds anybody up."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Watched(Generic[T]):
    """Holds the latest value."""

    def __init__(self, value: T) -> None:
        self.value = value
        self._changed = asyncio.Event()

    def set(self, value: T) -> None:
        """Replace the value and wake everybody who awaits a change."""
        self.value = value
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Return at the next `set`."""
        await self._changed.wait()
