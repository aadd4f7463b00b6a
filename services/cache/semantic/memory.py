"""What is remembered between a look-up and what is said about it later: so many items, each for so long."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from meshkit.clock import Clock

T = TypeVar("T")


class ShortMemory(Generic[T]):
    """Items by key; the oldest leaves first."""

    def __init__(self, clock: Clock, *, max_items: int, lives_s: float) -> None:
        self._max_items = max_items
        self._lives_s = lives_s
        self._clock = clock
        self._held: OrderedDict[bytes, tuple[float, T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: bytes) -> bool:
        return self.get(key) is not None

    def put(self, key: bytes, item: T) -> None:
        """Remember; what was known under the key is replaced."""
        self._held.pop(key, None)
        self._held[key] = (self._clock.now() + self._lives_s, item)
        while len(self._held) > self._max_items:
            self._held.popitem(last=False)

    def get(self, key: bytes) -> T | None:
        held = self._held.get(key)
        return None if held is None or held[0] <= self._clock.now() else held[1]

    def take(self, key: bytes) -> T | None:
        """The item, forgotten."""
        item = self.get(key)
        self._held.pop(key, None)
        return item
