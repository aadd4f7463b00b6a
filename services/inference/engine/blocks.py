"""The pool of KV blocks: who holds which. It knows nothing of tensors.

A sequence reserves all blocks that it can ever need when it is admitted, or none. So a running sequence never waits for
a block, and two sequences can't starve each other half-way.
"""

from __future__ import annotations

from collections import deque

BLOCK_TOKENS = 16


def blocks_for(token_count: int) -> int:
    return -(-token_count // BLOCK_TOKENS)


class BlockPool:
    """Block ids 0..block_count-1, least recently freed first."""

    def __init__(self, block_count: int) -> None:
        self.block_count = block_count
        self._free = deque(range(block_count))

    @property
    def free_count(self) -> int:
        return len(self._free)

    @property
    def used_count(self) -> int:
        return self.block_count - len(self._free)

    def could_ever_hold(self, token_count: int) -> bool:
        return blocks_for(token_count) <= self.block_count

    def reserve(self, token_count: int) -> list[int] | None:
        """Blocks for `token_count` tokens, or None (and nothing taken) if that many are not free."""
        wanted = blocks_for(token_count)
        if wanted > len(self._free):
            return None
        return [self._free.popleft() for _ in range(wanted)]

    def release(self, block_ids: list[int]) -> None:
        self._free.extend(block_ids)
