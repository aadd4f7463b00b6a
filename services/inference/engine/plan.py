"""What one step computes: plain data, made by the scheduler, sent to every rank, run by the model runner.

Also the two messages that ranks exchange before the first plan.
"""

from __future__ import annotations

import msgspec


class Excerpt(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What every rank tells of its slice of a row of logits, so that rank 0 need not read the row."""

    count: int = 0  # its likeliest tokens, so many of them
    temperature: float = 0.0  # over 0: and the sum of the exponentials of all others, at this temperature
    is_enough: bool = False  # rank 0 will not look at the row itself


WHOLE_ROW = Excerpt()


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive tokens of one sequence that go through the model in this step."""

    sequence_id: int
    token_ids: list[int]
    start: int  # position of token_ids[0] in the sequence; all before it lie in the cache already
    block_ids: list[int]  # the sequence's whole block table
    logit_count: int  # the last so many tokens of the chunk need logits
    excerpt: Excerpt = WHOLE_ROW  # of the last of these rows; the others are read whole

    @property
    def end(self) -> int:
        return self.start + len(self.token_ids)


class StepPlan(msgspec.Struct, frozen=True, kw_only=True, tag="plan"):
    """Chunks packed in one forward pass. Logit rows come out in the order of the chunks."""

    step: int
    chunks: list[Chunk]

    @property
    def token_count(self) -> int:
        return sum(len(chunk.token_ids) for chunk in self.chunks)

    @property
    def logit_count(self) -> int:
        return sum(chunk.logit_count for chunk in self.chunks)

    @property
    def excerpts(self) -> list[Excerpt]:
        """Of each row of logits."""
        rows: list[Excerpt] = []
        for chunk in self.chunks:
            if chunk.logit_count:
                rows += [WHOLE_ROW] * (chunk.logit_count - 1)
                rows.append(chunk.excerpt)
        return rows


class Join(msgspec.Struct, frozen=True, kw_only=True, tag="join"):
    """Rank 0 to the others: the model is checked, all-reduce and kernels are chosen; meet and load."""

    all_reduce: str
    kv_tokens: int  # of the KV cache, the same on all ranks
    context_tokens: int  # of the longest sequence
    kernels: str = ""  # path of the compiled kernels; empty: the model's stock definition runs
    no_kernels: str = ""  # why there are none
    sample_ids: list[int] = []  # the text on which a quantised model's loss is measured


class Room(msgspec.Struct, frozen=True, kw_only=True, tag="room"):
    """A rank to rank 0, before it loads: its memory holds this many tokens' keys and values."""

    kv_tokens: int


class Loaded(msgspec.Struct, frozen=True, kw_only=True, tag="loaded"):
    """A rank to rank 0: the shard is in memory, plans may come."""


ToRank = StepPlan | Join
FromRank = Room | Loaded
