"""What a step computes: one token of each sequence that needs just one, and chunks of prompts with what is left.

The token budget of a step thus bounds how long a prompt can hold up those that draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.inference.engine.blocks import BLOCK_TOKENS, BlockPool
from services.inference.engine.excerpts import excerpt_of
from services.inference.engine.limits import Limits
from services.inference.engine.plan import WHOLE_ROW, Chunk
from services.inference.engine.reuse import cover, join_in
from services.inference.engine.sequence import Sequence
from services.inference.engine.tally import Tally


def pack(running: Iterable[Sequence], limits: Limits, pool: BlockPool, tally: Tally, now: float) -> list[Chunk]:
    """The chunks of the next step; their sequences get the blocks that these need. At most `max_sequences` run."""
    chunks: list[Chunk] = []
    prompts: list[Sequence] = []
    for sequence in running:
        if len(sequence.token_ids) - sequence.computed_count == 1:
            chunks.append(_single(sequence, pool, now))
        else:
            prompts.append(sequence)
    if prompts:
        prompts.sort(key=lambda sequence: sequence.precedence)
        chunks.extend(_prompt_chunks(prompts, len(chunks), limits, pool, tally, now))
    return chunks


def _single(sequence: Sequence, pool: BlockPool, now: float) -> Chunk:
    start = sequence.computed_count
    if len(sequence.block_ids) * BLOCK_TOKENS <= start:
        cover(sequence, pool, start + 1)
    if sequence.first_scheduled_at is None:
        sequence.first_scheduled_at = now
    return Chunk(
        sequence_id=sequence.sequence_id,
        token_ids=sequence.token_ids[start:],
        start=start,
        block_ids=sequence.block_ids,
        logit_count=1,
        excerpt=excerpt_of(sequence),
    )


def _prompt_chunks(
    prompts: list[Sequence], single_count: int, limits: Limits, pool: BlockPool, tally: Tally, now: float
) -> Iterator[Chunk]:
    tokens_left, rows_left = limits.step_tokens - single_count, limits.logit_rows - single_count
    for sequence in prompts:
        if limits.reuses_prefixes and not sequence.scores_prompt:
            tally.note_reused(sequence, join_in(sequence, pool))
        chunk = _prompt_chunk(sequence, pool, tokens_left, rows_left)
        if chunk is None:
            return
        if sequence.first_scheduled_at is None:
            sequence.first_scheduled_at = now
        tokens_left -= len(chunk.token_ids)
        rows_left -= chunk.logit_count
        yield chunk


def _prompt_chunk(sequence: Sequence, pool: BlockPool, tokens_left: int, rows_left: int) -> Chunk | None:
    """As many tokens as there is room for, None if there is none."""
    start = sequence.computed_count
    most_tokens = min(tokens_left, rows_left) if sequence.scores_prompt else tokens_left
    end = min(start + most_tokens, len(sequence.token_ids))
    logit_count = end - start if sequence.scores_prompt else int(end == len(sequence.token_ids))
    if end <= start or logit_count > rows_left:
        return None
    cover(sequence, pool, end)
    return Chunk(
        sequence_id=sequence.sequence_id,
        token_ids=sequence.token_ids[start:end],
        start=start,
        block_ids=sequence.block_ids,
        logit_count=logit_count,
        excerpt=excerpt_of(sequence) if end == len(sequence.token_ids) else WHOLE_ROW,
    )
