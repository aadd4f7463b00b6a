"""What the tiers are compared with: the least recently used entry goes first, under the same byte budget."""

from __future__ import annotations

from collections import OrderedDict


class Lru:
    """Sizes by key."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._size_bytes = 0
        self._sizes: OrderedDict[int, int] = OrderedDict()

    def has(self, key: int) -> bool:
        """Whether it is there; then it is the most recently used."""
        if key not in self._sizes:
            return False
        self._sizes.move_to_end(key)
        return True

    def put(self, key: int, size_bytes: int) -> None:
        """Keep it, in place of others."""
        self._sizes[key] = size_bytes
        self._size_bytes += size_bytes
        while self._size_bytes > self._budget_bytes:
            self._size_bytes -= self._sizes.popitem(last=False)[1]

    def look_up(self, key: int, size_bytes: int) -> bool:
        """Whether it was there; it is afterwards."""
        if self.has(key):
            return True
        self.put(key, size_bytes)
        return False
