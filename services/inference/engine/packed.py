"""A plan's tokens one behind the other, as arrays: what goes into the model, and where keys and values go.

Legend: T tokens of the step, C chunks, R rows of logits.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from services.inference.engine.blocks import BLOCK_TOKENS
from services.inference.engine.plan import StepPlan

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Token ids, positions and cache slots of all tokens, and where each chunk and its block table begin."""

    token_ids_T: Ints
    positions_T: Ints
    slots_T: Ints
    logit_index_R: Ints
    begins: Ints  # [C + 1]
    starts_C: Ints  # position of each chunk's first token
    tables: NDArray[np.int32]  # all block tables one behind the other
    table_begins_C: Ints


def pack_plan(plan: StepPlan) -> Packed:
    chunks = plan.chunks
    token_ids: list[int] = []
    tables: list[int] = []
    lengths, table_begins = [], []
    for chunk in chunks:
        lengths.append(len(chunk.token_ids))
        table_begins.append(len(tables))
        token_ids += chunk.token_ids
        tables += chunk.block_ids
    lengths_C, starts_C = np.array(lengths), np.array([chunk.start for chunk in chunks])
    begins, table_begins_C = np.array(list(accumulate(lengths, initial=0))), np.array(table_begins)
    positions_T = _ramps(starts_C, lengths_C)
    flat_tables = _int32(tables)
    blocks_T = flat_tables[np.repeat(table_begins_C, lengths_C) + positions_T // BLOCK_TOKENS]
    counts_C = np.array([chunk.logit_count for chunk in chunks])
    return Packed(
        token_ids_T=np.array(token_ids),
        positions_T=positions_T,
        slots_T=blocks_T.astype(np.int64) * BLOCK_TOKENS + positions_T % BLOCK_TOKENS,
        logit_index_R=_ramps(begins[1:] - counts_C, counts_C),
        begins=begins,
        starts_C=starts_C,
        tables=flat_tables,
        table_begins_C=table_begins_C,
    )


def _int32(numbers: list[int]) -> NDArray[np.int32]:
    """Twice as fast as numpy's own way, which counts where there are thousands."""
    memory = bytearray(4 * len(numbers))
    struct.pack_into(f"{len(numbers)}i", memory, 0, *numbers)
    return np.frombuffer(memory, dtype=np.int32)


def _ramps(firsts_C: Ints, lengths_C: Ints) -> Ints:
    """first, first + 1, .. for each chunk, one behind the other."""
    ends_C = lengths_C.cumsum()
    ramps: Ints = np.repeat(firsts_C - ends_C + lengths_C, lengths_C) + np.arange(ends_C[-1])
    return ramps
