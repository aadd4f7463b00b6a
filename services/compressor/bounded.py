"""A store with a bound in bytes and in time: what was not used for longest goes first, what is too old is not there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from meshkit.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedStore(Generic[K, V]):
    """Values with their sizes. Putting or getting one makes it live `ttl_s` from now."""

    def __init__(self, *, max_bytes: int, ttl_s: float, clock: Clock) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._held: OrderedDict[K, tuple[float, int, V]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: K) -> V | None:
        """The value, if it is still there."""
        self._drop_expired()
        held = self._held.get(key)
        if held is None:
            return None
        _, size, value = held
        self._held[key] = (self._clock.now() + self._ttl_s, size, value)
        self._held.move_to_end(key)
        return value

    def peek(self, key: K) -> V | None:
        """The same, and nothing lives longer for it."""
        held = self._held.get(key)
        return held[2] if held is not None and held[0] > self._clock.now() else None

    def put(self, key: K, value: V, size: int) -> None:
        """Keep it in the place of what had its key; one that is larger than the whole store is not kept."""
        self.remove(key)
        if size > self._max_bytes:
            return
        self._held[key] = (self._clock.now() + self._ttl_s, size, value)
        self.size_bytes += size
        self._drop_expired()
        while self.size_bytes > self._max_bytes:
            self.remove(next(iter(self._held)))

    def remove(self, key: K) -> None:
        """Forget it."""
        held = self._held.pop(key, None)
        if held is not None:
            self.size_bytes -= held[1]

    def _drop_expired(self) -> None:
        """Every use renews a value and moves it to the end, so the oldest stand first."""
        now = self._clock.now()
        while self._held and next(iter(self._held.values()))[0] <= now:
            self.remove(next(iter(self._held)))
