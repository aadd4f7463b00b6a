"""The blocks of a sequence: those that others have computed, those it takes, and those it leaves for others to find."""

from __future__ import annotations

from services.inference.engine.blocks import BLOCK_TOKENS, BlockPool, blocks_for
from services.inference.engine.sequence import Sequence


def stored_blocks(sequence: Sequence, pool: BlockPool, first: int) -> list[int]:
    """The stored blocks with the sequence's content from its block `first` on, without a gap.

    The block of the last token is never among them: its logits have to be computed.
    """
    found: list[int] = []
    for index in range(first, (len(sequence.token_ids) - 1) // BLOCK_TOKENS):
        block_id = pool.find(sequence.chain.at(index, sequence.token_ids))
        if block_id is None:
            break
        found.append(block_id)
    return found


def join_in(sequence: Sequence, pool: BlockPool) -> int:
    """Go on with blocks that others have filled meanwhile instead of taking own; gives how many tokens that saves."""
    first, offset = divmod(sequence.computed_count, BLOCK_TOKENS)
    found = [] if offset else stored_blocks(sequence, pool, first)
    if not found:
        return 0
    pool.hold(found)
    pool.forgo(len(found))
    sequence.promised_count -= len(found)
    sequence.block_ids = sequence.block_ids + found
    sequence.computed_count += len(found) * BLOCK_TOKENS
    return len(found) * BLOCK_TOKENS


def cover(sequence: Sequence, pool: BlockPool, end: int) -> None:
    """Take the blocks that its first `end` tokens need, from those that were promised."""
    count = blocks_for(end) - len(sequence.block_ids)
    if count > 0:
        sequence.block_ids = sequence.block_ids + pool.take(count)
        sequence.promised_count -= count


def give_back(sequence: Sequence, pool: BlockPool) -> None:
    """Hold nothing any more, and have nothing promised."""
    pool.release(sequence.block_ids)
    pool.forgo(sequence.promised_count)
    sequence.block_ids, sequence.promised_count = [], 0


def store_computed(sequence: Sequence, pool: BlockPool, begin: int) -> None:
    """Let others find the blocks that were filled since `begin` tokens were computed, unless a flush lies between."""
    if sequence.cache_epoch == pool.epoch:
        for index in range(begin // BLOCK_TOKENS, sequence.computed_count // BLOCK_TOKENS):
            pool.store(sequence.block_ids[index], sequence.chain.at(index, sequence.token_ids))
