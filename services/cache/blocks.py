"""Payloads in memory of our own, in blocks of one size, so that what is let go of is always of use to the next.

The allocators of CPython and C keep a hole for entries of its own size; as entries of other sizes come, memory grows to
well over what is held. Here a payload is a chain of blocks, wherever they are free: half a block is lost per payload,
and nothing else. Memory grows by a segment, and shrinks by one when the blocks in the last are moved elsewhere.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

BLOCK_BYTES = 256
_LINKS_BYTES = 8
COST_BYTES = BLOCK_BYTES + _LINKS_BYTES
"""What one block occupies."""
_BLOCKS_A_SEGMENT = 64
_END = 0xFFFFFFFF
_IS_FIRST = 0x80000000
"""Set in the link backwards of a chain's first block; the rest of that is its owner. Other blocks have their number."""


def block_count(size_bytes: int) -> int:
    """Blocks that a payload of so many bytes takes."""
    return -(-size_bytes // BLOCK_BYTES)


class Blocks:
    """Chains of blocks, each named by its first one and owned by a number of the caller's."""

    def __init__(self, moved: Callable[[int, int], None]) -> None:
        """`moved` is told the owner and the new first block of a chain that `shrink` moved."""
        self._moved = moved
        self._segments: list[bytearray] = []
        self._next = array("I")
        """Of each block, the one that follows it in its chain, or among the free ones."""
        self._before = array("I")
        self._is_free = bytearray()
        self._free = _END
        self._free_count = 0

    @property
    def occupied_bytes(self) -> int:
        """Of all blocks, free ones too."""
        return len(self._next) * COST_BYTES

    @property
    def can_shrink(self) -> bool:
        """Whether a segment's worth of blocks is free."""
        return self._free_count >= _BLOCKS_A_SEGMENT

    def growth_bytes(self, size_bytes: int) -> int:
        """By how much a payload of so many bytes would make that larger."""
        lacking = block_count(size_bytes) - self._free_count
        return max(0, -(-lacking // _BLOCKS_A_SEGMENT)) * _BLOCKS_A_SEGMENT * COST_BYTES

    def put(self, payload: bytes, owner: int) -> int:
        """Keep a copy; the number gives it back. An empty payload takes no block."""
        first = _END
        # From the end, so that each link is known when its block is written.
        for start in range((block_count(len(payload)) - 1) * BLOCK_BYTES, -1, -BLOCK_BYTES):
            block = self._take()
            piece = payload[start : start + BLOCK_BYTES]
            offset = block % _BLOCKS_A_SEGMENT * BLOCK_BYTES
            self._segments[block // _BLOCKS_A_SEGMENT][offset : offset + len(piece)] = piece
            self._next[block] = first
            if first != _END:
                self._before[first] = block
            first = block
        self.set_owner(first, owner)
        return first

    def set_owner(self, first: int, owner: int) -> None:
        """The chain belongs to another number from now on."""
        if first != _END:
            self._before[first] = owner | _IS_FIRST

    def get(self, first: int, size_bytes: int) -> bytes:
        """The payload, which had this size."""
        pieces = []
        block = first
        for _ in range(block_count(size_bytes)):
            offset = block % _BLOCKS_A_SEGMENT * BLOCK_BYTES
            pieces.append(self._segments[block // _BLOCKS_A_SEGMENT][offset : offset + BLOCK_BYTES])
            block = self._next[block]
        return b"".join(pieces)[:size_bytes]

    def free(self, first: int) -> None:
        """Let go of a payload."""
        while first != _END:
            following = self._next[first]
            self._give(first)
            first = following

    def shrink(self) -> None:
        """Move what is in the last segment into free blocks of others, and give the segment back."""
        start = len(self._next) - _BLOCKS_A_SEGMENT
        used = [block for block in range(start, len(self._next)) if not self._is_free[block]]
        for block in range(start, len(self._next)):
            if self._is_free[block]:
                self._unlink(block)
        for block in used:
            self._move(block, self._take())
        del self._next[start:], self._before[start:], self._is_free[start:]
        self._segments.pop()

    def _move(self, block: int, target: int) -> None:
        source = block % _BLOCKS_A_SEGMENT * BLOCK_BYTES
        offset = target % _BLOCKS_A_SEGMENT * BLOCK_BYTES
        piece = self._segments[block // _BLOCKS_A_SEGMENT][source : source + BLOCK_BYTES]
        self._segments[target // _BLOCKS_A_SEGMENT][offset : offset + BLOCK_BYTES] = piece
        following, before = self._next[block], self._before[block]
        self._next[target], self._before[target] = following, before
        if following != _END:
            self._before[following] = target
        if before & _IS_FIRST:
            self._moved(before & ~_IS_FIRST, target)
        else:
            self._next[before] = target

    def _take(self) -> int:
        if self._free == _END:
            self._grow()
        block = self._free
        self._unlink(block)
        return block

    def _give(self, block: int) -> None:
        self._next[block], self._before[block] = self._free, _END
        if self._free != _END:
            self._before[self._free] = block
        self._free = block
        self._is_free[block] = 1
        self._free_count += 1

    def _unlink(self, block: int) -> None:
        """Out of the free ones."""
        following, before = self._next[block], self._before[block]
        if before == _END:
            self._free = following
        else:
            self._next[before] = following
        if following != _END:
            self._before[following] = before
        self._is_free[block] = 0
        self._free_count -= 1

    def _grow(self) -> None:
        first = len(self._next)
        self._segments.append(bytearray(_BLOCKS_A_SEGMENT * BLOCK_BYTES))
        self._next.extend([_END] * _BLOCKS_A_SEGMENT)
        self._before.extend([_END] * _BLOCKS_A_SEGMENT)
        self._is_free.extend(bytes(_BLOCKS_A_SEGMENT))
        for block in range(first + _BLOCKS_A_SEGMENT - 1, first - 1, -1):
            self._give(block)
