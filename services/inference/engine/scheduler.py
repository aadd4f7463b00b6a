"""Which sequences take part in the next step, and with which tokens. Pure: no tensors, no sockets, no clock.

The order is `precedence`'s, and its starvation bound holds since nobody is admitted before a sequence that waits
and goes first. Who fits is `admission`'s matter, what a step computes `packing`'s. A sequence that is pushed out keeps
its drawn tokens; what it had computed it finds in the prefix cache, or computes anew.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

from services.inference.engine.admission import Admission
from services.inference.engine.blocks import BLOCK_TOKENS, BlockPool, CacheChanges
from services.inference.engine.limits import Limits, Rejected, check_request
from services.inference.engine.line import Line
from services.inference.engine.messages import AddSequence, Load
from services.inference.engine.packing import pack
from services.inference.engine.plan import Chunk, StepPlan
from services.inference.engine.precedence import precedence_of
from services.inference.engine.prefix import PrefixChain
from services.inference.engine.reuse import give_back, store_computed
from services.inference.engine.sequence import Sequence
from services.inference.engine.tally import Tally

__all__ = ["Limits", "Rejected", "Scheduler"]


class Scheduler:
    """Holds the waiting and the running sequences; `plan` decides, `advance` and `end` record what happened."""

    def __init__(self, limits: Limits, pool: BlockPool) -> None:
        self._limits, self._pool = limits, pool
        self._admission = Admission(limits, pool)
        self._waiting = Line(lambda sequence: sequence.precedence)
        self._expiring = Line(lambda sequence: (sequence.expires_at, sequence.precedence))
        self._sequences: dict[int, Sequence] = {}
        self._running: dict[int, Sequence] = {}
        self._arrivals = itertools.count()
        self._waiting_tokens = 0
        self._gathers_until = -math.inf
        self._tally = Tally()
        self._step = 0

    def add(self, request: AddSequence, *, seed: int, now: float) -> None:
        """Queue a sequence. Raises Rejected."""
        check_request(request, self._limits, self._pool)
        if request.sequence_id in self._sequences:
            raise Rejected(f"sequence {request.sequence_id} is here already")
        sequence = Sequence(
            request=request,
            seed=seed,
            arrived_at=now,
            token_ids=list(request.prompt_ids),
            precedence=(precedence_of(request, now, self._limits.ageing_s), next(self._arrivals)),
            chain=PrefixChain(request.cache_salt),
        )
        if not self._sequences:
            self._gathers_until = now + self._limits.batching_window_s
        self._sequences[sequence.sequence_id] = sequence
        self._enqueue(sequence)
        if request.deadline_s is not None:
            self._expiring.add(sequence)

    def end(self, sequence_id: int) -> bool:
        """Forget a sequence and free its blocks at once. False if it isn't here (any more)."""
        sequence = self._sequences.pop(sequence_id, None)
        if sequence is None:
            return False
        if self._running.pop(sequence_id, None) is not None:
            give_back(sequence, self._pool)
        else:
            self._dequeue(sequence)
        if sequence.request.deadline_s is not None:
            self._expiring.remove(sequence)
        return True

    def expire(self, now: float) -> list[int]:
        """End the sequences whose deadline has come; gives their ids."""
        expired = []
        while self._expiring and self._expiring.first.expires_at <= now:
            expired.append(self._expiring.first.sequence_id)
            self.end(expired[-1])
        return expired

    def idle_s(self, now: float) -> float | None:
        """How long the first sequences still wait for company; None if nothing waits for that."""
        gathers = self._waiting and not self._running and len(self._waiting) < self._limits.max_sequences
        return self._gathers_until - now if gathers and now < self._gathers_until else None

    def plan(self, now: float) -> StepPlan | None:
        """The next step, or None if there is nothing to do. Admits what fits."""
        if self.idle_s(now) is None:
            if self._limits.output_reserve_tokens is not None:
                self._grow()
            self._admit()
        chunks = pack(self._running.values(), self._limits, self._pool, self._tally, now)
        if not chunks:
            return None
        self._step += 1
        return StepPlan(step=self._step, chunks=chunks)

    def advance(self, chunk: Chunk) -> Sequence | None:
        """Record that the chunk's tokens are in the cache; gives its sequence, or None if it has ended meanwhile."""
        sequence = self._running.get(chunk.sequence_id)
        self._tally.note_computed(chunk, sequence)
        if sequence is not None:
            sequence.computed_count = chunk.end
            store_computed(sequence, self._pool, chunk.start)
        return sequence

    def load(self) -> Load:
        pending = (len(sequence.token_ids) - sequence.computed_count for sequence in self._running.values())
        tally = self._tally
        return Load(
            running_count=len(self._running),
            waiting_count=len(self._waiting),
            prefill_backlog_tokens=self._waiting_tokens + sum(count for count in pending if count > 1),
            kv_used_tokens=self._pool.used_count * BLOCK_TOKENS,
            kv_total_tokens=self._pool.block_count * BLOCK_TOKENS,
            computed_slot_count=tally.computed_slot_count,
            useful_token_count=tally.useful_token_count,
            prompt_token_count=tally.prompt_token_count,
            cached_prompt_token_count=tally.cached_prompt_token_count,
            preemption_count=tally.preemption_count,
        )

    def flush(self) -> int:
        """Forget the prefix cache; what runs goes on, and stores nothing any more. Gives how many blocks came free."""
        return self._pool.flush()

    def pin(self, token_ids: list[int], cache_salt: str) -> int:
        """Keep the whole blocks of this prefix once they are stored; how many they are, 0 if not all can be kept."""
        digests = _digests(token_ids, cache_salt)
        pinned = list(itertools.takewhile(self._pool.pin, digests))
        if len(pinned) == len(digests):
            return len(pinned)
        for digest in pinned:
            self._pool.unpin(digest)
        return 0

    def unpin(self, token_ids: list[int], cache_salt: str) -> None:
        for digest in _digests(token_ids, cache_salt):
            self._pool.unpin(digest)

    def take_cache_changes(self) -> CacheChanges | None:
        """What came into and out of the prefix cache since the last call."""
        return self._pool.take_changes()

    @property
    def running(self) -> Iterable[Sequence]:
        return self._running.values()

    @property
    def waiting(self) -> Iterable[Sequence]:
        return self._waiting

    def _enqueue(self, sequence: Sequence) -> None:
        self._waiting.add(sequence)
        self._waiting_tokens += len(sequence.token_ids)

    def _dequeue(self, sequence: Sequence) -> None:
        self._waiting.remove(sequence)
        self._waiting_tokens -= len(sequence.token_ids)

    def _admit(self) -> None:
        while self._waiting and (self._enter(self._waiting.first) or self._push_out_for(self._waiting.first)):
            pass

    def _enter(self, sequence: Sequence) -> bool:
        shared_count = self._admission.reserve(sequence, len(self._running))
        if shared_count is None:
            return False
        self._dequeue(sequence)
        self._running[sequence.sequence_id] = sequence
        sequence.computed_count = shared_count * BLOCK_TOKENS
        self._tally.note_admitted(sequence)
        self._tally.note_reused(sequence, sequence.computed_count)
        return True

    def _push_out_for(self, sequence: Sequence) -> bool:
        victims = self._admission.victims(sequence, self._running.values())
        for victim in victims:
            self._push_out(victim)
        return bool(victims) and self._enter(sequence)

    def _push_out(self, sequence: Sequence) -> None:
        del self._running[sequence.sequence_id]
        give_back(sequence, self._pool)
        sequence.computed_count = 0
        sequence.preemption_count += 1
        sequence.prompt_scores.clear()
        self._enqueue(sequence)
        self._tally.note_preempted()

    def _grow(self) -> None:
        """Promise each running sequence the block that its next token needs."""
        for sequence in list(self._running.values()):
            while sequence.sequence_id in self._running and _has_outgrown(sequence):
                if self._pool.reserve(1, gives_up_pins=len(self._running) == 1):
                    sequence.promised_count += 1
                else:
                    self._push_out(self._admission.outgrown_by(sequence, self._running.values()))


def _digests(token_ids: list[int], cache_salt: str) -> list[bytes]:
    """Of the whole blocks."""
    chain = PrefixChain(cache_salt)
    return [chain.at(index, token_ids) for index in range(len(token_ids) // BLOCK_TOKENS)]


def _has_outgrown(sequence: Sequence) -> bool:
    return (len(sequence.block_ids) + sequence.promised_count) * BLOCK_TOKENS < len(sequence.token_ids)
