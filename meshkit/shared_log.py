"""Entries in order that one writer adds and any number of readers follow, each from where it likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedLog(Generic[T]):
    """Keeps all entries, so it is for logs that end soon. For one event loop."""

    def __init__(self) -> None:
        self._entries: list[T] = []
        self._offer: T | None = None
        self._is_over = False
        self._failure: Exception | None = None
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def extend(self, entries: Iterable[T]) -> None:
        """Every reader gets these next."""
        self._entries.extend(entries)
        self._tell()

    def offer(self, entry: T) -> None:
        """One reader that has all entries gets this, and nothing behind it; it is no entry of the log."""
        self._offer = entry
        self._tell()

    def end(self, failure: Exception | None = None) -> None:
        """Nothing more comes; readers end behind the last entry, or raise this there."""
        self._is_over = True
        self._failure = failure
        self._tell()

    async def read(self, first: int = 0) -> AsyncGenerator[T, None]:
        """Entries from number `first` on, as they come, to the log's end or to an offer that this reader gets."""
        position = first
        while True:
            changed = self._changed
            while position < len(self._entries):
                yield self._entries[position]
                position += 1
            if self._is_over:
                if self._failure is not None:
                    raise self._failure
                return
            if self._offer is not None:
                offered, self._offer = self._offer, None
                yield offered
                return
            await changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
