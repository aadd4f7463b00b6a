"""Payloads in memory of our own, in blocks of one size, so that what is let go of is always of use to the next.

The allocators of CPython and C keep a hole for entries of its own size; as entries of other sizes come, memory grows to
well over what is held. Here a payload is a chain of blocks, wherever they are free: half a block is lost per payload,
and nothing else. Memory grows in steps of a segment and stays.
"""

from __future__ import annotations

from array import array

BLOCK_BYTES = 256
_LINK_BYTES = 4
COST_BYTES = BLOCK_BYTES + _LINK_BYTES
"""What one block occupies."""
_BLOCKS_A_SEGMENT = 64
_END = 0xFFFFFFFF


def block_count(size_bytes: int) -> int:
    """Blocks that a payload of so many bytes takes."""
    return -(-size_bytes // BLOCK_BYTES)


class Blocks:
    """Chains of blocks, each named by its first one."""

    def __init__(self) -> None:
        self._segments: list[bytearray] = []
        self._next = array("I")
        """Of each block, the one that follows it in its chain, or among the free ones."""
        self._free = _END
        self._free_count = 0

    @property
    def occupied_bytes(self) -> int:
        """All that was ever needed at once."""
        return len(self._next) * COST_BYTES

    @property
    def free_bytes(self) -> int:
        """Of that, what nothing uses now."""
        return self._free_count * COST_BYTES

    def growth_bytes(self, size_bytes: int) -> int:
        """By how much a payload of so many bytes would make that larger."""
        lacking = block_count(size_bytes) - self._free_count
        return max(0, -(-lacking // _BLOCKS_A_SEGMENT)) * _BLOCKS_A_SEGMENT * COST_BYTES

    def put(self, payload: bytes) -> int:
        """Keep a copy; the number gives it back. An empty payload takes no block."""
        first = _END
        # From the end, so that each link is known when its block is written.
        for start in range((block_count(len(payload)) - 1) * BLOCK_BYTES, -1, -BLOCK_BYTES):
            block = self._take()
            piece = payload[start : start + BLOCK_BYTES]
            offset = block % _BLOCKS_A_SEGMENT * BLOCK_BYTES
            self._segments[block // _BLOCKS_A_SEGMENT][offset : offset + len(piece)] = piece
            self._next[block] = first
            first = block
        return first

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
        if first == _END:
            return
        last = first
        self._free_count += 1
        while self._next[last] != _END:
            last = self._next[last]
            self._free_count += 1
        self._next[last] = self._free
        self._free = first

    def _take(self) -> int:
        if self._free == _END:
            self._grow()
        block = self._free
        self._free = self._next[block]
        self._free_count -= 1
        return block

    def _grow(self) -> None:
        first = len(self._next)
        self._segments.append(bytearray(_BLOCKS_A_SEGMENT * BLOCK_BYTES))
        self._next.extend(range(first + 1, first + _BLOCKS_A_SEGMENT))
        self._next.append(_END)
        self._free = first
        self._free_count = _BLOCKS_A_SEGMENT
