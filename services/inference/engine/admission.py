"""Who may run: blocks are reserved before a sequence's first step, and one that goes first may push others out.

By default a sequence gets every block that it can ever need, so whatever runs can end and nothing deadlocks. Where only
a part of the output is reserved (`output_reserve_tokens`), a sequence that outgrows its blocks pushes out the
last in order, or leaves itself; the first can always go on, since the whole pool holds it. A sequence that was pushed
out `most_preemptions` times gets every block it can need and stays until its end.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.inference.engine.blocks import BlockPool, blocks_for
from services.inference.engine.limits import Limits
from services.inference.engine.reuse import stored_blocks
from services.inference.engine.sequence import Sequence


class Admission:
    """Rules over one pool; holds no state of its own."""

    def __init__(self, limits: Limits, pool: BlockPool) -> None:
        self._limits, self._pool = limits, pool

    def reserve(self, sequence: Sequence, running_count: int) -> int | None:
        """Give it the stored blocks of its content and promise the rest; how many those are, None if it doesn't fit."""
        if running_count >= self._limits.max_sequences:
            return None
        shared, fresh_count = self._needs(sequence)
        if not self._pool.reserve(fresh_count, shared, gives_up_pins=running_count == 0):
            return None
        sequence.block_ids, sequence.promised_count = shared, fresh_count
        sequence.cache_epoch = self._pool.epoch
        return len(shared)

    def victims(self, sequence: Sequence, running: Iterable[Sequence]) -> list[Sequence]:
        """The fewest, last in order first, that must leave for it to fit; none if that would not be enough.

        Only those more than one step of priority behind it may be pushed out.
        """
        running = list(running)
        bound = sequence.precedence[0] + self._limits.ageing_s
        behind = [other for other in running if other.precedence[0] > bound and self._may_leave(other)]
        if not behind:
            return []
        behind.sort(key=lambda other: other.precedence, reverse=True)
        shared, fresh_count = self._needs(sequence)
        missing_blocks = self._pool.shortage(fresh_count, shared)
        missing_places = len(running) + 1 - self._limits.max_sequences
        if sum(len(other.block_ids) + other.promised_count for other in behind) < missing_blocks:
            return []
        return self._fewest(behind, set(shared), missing_blocks, missing_places)

    def outgrown_by(self, sequence: Sequence, running: Iterable[Sequence]) -> Sequence:
        """Who leaves so that this running sequence can go on: the last in order, perhaps itself."""
        return max((other for other in running if self._may_leave(other)), key=lambda other: other.precedence)

    def _needs(self, sequence: Sequence) -> tuple[list[int], int]:
        """Blocks that hold its content already, and how many it needs besides."""
        reuses = self._limits.reuses_prefixes and not sequence.scores_prompt
        shared = stored_blocks(sequence, self._pool, 0) if reuses else []
        return shared, blocks_for(self._reserved_tokens(sequence)) - len(shared)

    def _reserved_tokens(self, sequence: Sequence) -> int:
        part = self._limits.output_reserve_tokens
        if part is None or not self._may_leave(sequence):
            return sequence.most_tokens
        return min(sequence.most_tokens, len(sequence.token_ids) + part)

    def _may_leave(self, sequence: Sequence) -> bool:
        return sequence.preemption_count < self._limits.most_preemptions

    def _fewest(
        self, behind: list[Sequence], shared: set[int], missing_blocks: int, missing_places: int
    ) -> list[Sequence]:
        chosen: list[tuple[Sequence, int]] = []
        freed = 0
        for other in behind:
            if freed >= missing_blocks and len(chosen) >= missing_places:
                break
            gain = self._freed_by(other, shared)
            chosen.append((other, gain))
            freed += gain
        if freed < missing_blocks:
            return []
        for other, gain in reversed(chosen):
            if freed - gain >= missing_blocks and len(chosen) > max(missing_places, 1):
                chosen.remove((other, gain))
                freed -= gain
        return [other for other, _ in chosen]

    def _freed_by(self, sequence: Sequence, shared: set[int]) -> int:
        own = (block for block in sequence.block_ids if self._pool.holder_count(block) == 1 and block not in shared)
        return sequence.promised_count + sum(1 for _ in own)
