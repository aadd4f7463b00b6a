"""Which sequences take part in the next step, and with which tokens. Pure: no tensors, no sockets, no clock.

Running sequences come first, one token each; what is left of the step's token budget goes to prompts, in chunks, in the
order of priority and arrival. A sequence is admitted only with all blocks that it can ever need (see `blocks`), so
nothing that runs is ever taken back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.inference.engine.blocks import BLOCK_TOKENS, BlockPool
from services.inference.engine.messages import AddSequence, Load
from services.inference.engine.plan import Chunk, StepPlan
from services.inference.engine.sequence import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one step may hold."""

    max_sequences: int
    step_tokens: int  # tokens through the model in one step; at least max_sequences
    logit_rows: int  # rows of logits in one step; at least max_sequences + 1
    vocabulary_size: int


class Rejected(Exception):
    """A sequence that could never be run: too long for the whole pool, or not made of the model's tokens."""


class Scheduler:
    """Holds the waiting and the running sequences; `plan` decides, `advance` and `end` record what happened."""

    def __init__(self, limits: Limits, pool: BlockPool) -> None:
        self._limits, self._pool = limits, pool
        self._waiting: list[Sequence] = []
        self._running: dict[int, Sequence] = {}
        self._step = 0

    def add(self, request: AddSequence, *, seed: int, now: float) -> None:
        """Queue a sequence. Raises Rejected."""
        sequence = Sequence(request=request, seed=seed, arrived_at=now, token_ids=list(request.prompt_ids))
        self._check(sequence)
        self._waiting.append(sequence)
        self._waiting.sort(key=lambda waiting: (-waiting.request.priority, waiting.arrived_at))

    def end(self, sequence_id: int) -> bool:
        """Forget a sequence and free its blocks at once. False if it isn't here (any more)."""
        sequence = self._running.pop(sequence_id, None)
        if sequence is not None:
            self._pool.release(sequence.block_ids)
            return True
        before = len(self._waiting)
        self._waiting = [waiting for waiting in self._waiting if waiting.sequence_id != sequence_id]
        return len(self._waiting) < before

    def plan(self, now: float) -> StepPlan | None:
        """The next step, or None if there is nothing to do. Admits what fits."""
        self._admit()
        chunks = list(self._chunks(now))
        if not chunks:
            return None
        self._step += 1
        return StepPlan(step=self._step, chunks=chunks)

    def advance(self, chunk: Chunk) -> Sequence | None:
        """Record that the chunk's tokens are in the cache; gives its sequence, or None if it has ended meanwhile."""
        sequence = self._running.get(chunk.sequence_id)
        if sequence is not None:
            sequence.computed_count = chunk.end
        return sequence

    def load(self) -> Load:
        backlog = sum(sequence.prompt_count for sequence in self._waiting)
        backlog += sum(sequence.pending_count for sequence in self._running.values() if sequence.is_prefilling)
        return Load(
            running_count=len(self._running),
            waiting_count=len(self._waiting),
            prefill_backlog_tokens=backlog,
            kv_used_tokens=self._pool.used_count * BLOCK_TOKENS,
            kv_total_tokens=self._pool.block_count * BLOCK_TOKENS,
        )

    def _check(self, sequence: Sequence) -> None:
        if not sequence.token_ids:
            raise Rejected("the prompt has no token")
        if min(sequence.token_ids) < 0 or max(sequence.token_ids) >= self._limits.vocabulary_size:
            raise Rejected(f"a token id is outside the vocabulary of {self._limits.vocabulary_size}")
        if sequence.request.stopping.max_tokens < 1:
            raise Rejected("max_tokens is below 1")
        if not self._pool.could_ever_hold(sequence.most_tokens):
            held = self._pool.block_count * BLOCK_TOKENS
            raise Rejected(f"{sequence.most_tokens} tokens of prompt and output exceed the KV cache of {held} tokens")

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._limits.max_sequences:
            block_ids = self._pool.reserve(self._waiting[0].most_tokens)
            if block_ids is None:
                return
            sequence = self._waiting.pop(0)
            sequence.block_ids = block_ids
            self._running[sequence.sequence_id] = sequence

    def _chunks(self, now: float) -> Iterable[Chunk]:
        decoding = [sequence for sequence in self._running.values() if not sequence.is_prefilling]
        tokens_left = self._limits.step_tokens - len(decoding)
        rows_left = self._limits.logit_rows - len(decoding)
        yield from (_next_chunk(sequence, 1) for sequence in decoding)
        for sequence in [running for running in self._running.values() if running.is_prefilling]:
            chunk = _next_chunk(sequence, min(tokens_left, rows_left if sequence.scores_prompt else tokens_left))
            if not chunk.token_ids or chunk.logit_count > rows_left:
                return
            if sequence.first_scheduled_at is None:
                sequence.first_scheduled_at = now
            tokens_left -= len(chunk.token_ids)
            rows_left -= chunk.logit_count
            yield chunk


def _next_chunk(sequence: Sequence, most_tokens: int) -> Chunk:
    start = sequence.computed_count
    token_ids = sequence.token_ids[start : start + max(most_tokens, 0)]
    draws = start + len(token_ids) == len(sequence.token_ids)
    scores = sequence.scores_prompt and sequence.is_prefilling
    return Chunk(
        sequence_id=sequence.sequence_id,
        token_ids=token_ids,
        start=start,
        block_ids=sequence.block_ids,
        logit_count=len(token_ids) if scores else int(draws and bool(token_ids)),
    )
