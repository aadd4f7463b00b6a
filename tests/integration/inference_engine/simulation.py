"""A seeded world around the scheduler: random requests, a cache of plain lists, and rules that must hold every step.

The fake cache keeps, for each slot, whose token was computed there. A step reads all earlier slots of its chunks
through their block tables, as attention would, so a block that is shared, freed or found wrongly is seen at once.
"""

from __future__ import annotations

import random
import zlib
from array import array
from dataclasses import dataclass, field

from services.inference.engine.blocks import BLOCK_TOKENS, BlockPool
from services.inference.engine.limits import Limits
from services.inference.engine.messages import AddSequence, Sampling, Stopping
from services.inference.engine.plan import Chunk, StepPlan
from services.inference.engine.precedence import starvation_bound_s
from services.inference.engine.scheduler import Scheduler
from services.inference.engine.sequence import Sequence

VOCABULARY = 50
TENANTS = ("ada", "bob", "")
BLOCKS, SEQUENCES, STEP_TOKENS = 24, 6, 24
LONGEST_WAITING = 30


@dataclass
class Ends:
    """How the accepted sequences ended."""

    finished: set[int] = field(default_factory=set)
    aborted: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    expired: set[int] = field(default_factory=set)

    def count(self) -> int:
        return len(self.finished) + len(self.aborted) + len(self.failed) + len(self.expired)


class World:
    """One engine without a model; `step` does something random, runs the engine and checks everything."""

    def __init__(self, seed: int, **limits: object) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.limits = Limits(
            max_sequences=SEQUENCES,
            step_tokens=STEP_TOKENS,
            logit_rows=SEQUENCES + 8,
            vocabulary_size=VOCABULARY,
            **limits,  # type: ignore[arg-type]
        )
        self.pool = BlockPool(BLOCKS)
        self.scheduler = Scheduler(self.limits, self.pool)
        self.cache = [[-1] * BLOCK_TOKENS for _ in range(BLOCKS)]
        self.labels: dict[int, list[int]] = {}
        self.open: dict[int, Sequence] = {}
        self.accepted_count = 0
        self.ends = Ends()
        self.stored: set[bytes] = set()
        self._next_id = 0
        self._prefixes = [
            [self.random.randrange(VOCABULARY) for _ in range(self.random.randint(16, 90))] for _ in range(6)
        ]

    def step(self) -> None:
        """Something random, then a step of the engine."""
        self._disturb()
        self.run()

    def abort(self, sequence_id: int) -> None:
        assert self.scheduler.end(sequence_id)
        assert not self.scheduler.end(sequence_id)
        self._ended(sequence_id, self.ends.aborted)

    def run(self) -> None:
        """A step of the engine, and every rule."""
        self.now += self.random.random() * 0.3
        for sequence_id in self.scheduler.expire(self.now):
            self._ended(sequence_id, self.ends.expired)
        before = {sequence.sequence_id for sequence in self.scheduler.running}
        plan = self.scheduler.plan(self.now)
        self._check_admissions(before)
        assert plan is not None or not self.open or self.scheduler.idle_s(self.now) is not None, "work, but no progress"
        if plan is not None:
            self._check_plan(plan)
            for chunk in plan.chunks:
                self._compute(chunk)
            for chunk in plan.chunks:
                self._update(chunk)
        self._check_blocks()
        self._check_changes()

    def _disturb(self) -> None:
        dice = self.random.random()
        if dice < 0.22 and len(self.open) < LONGEST_WAITING:
            self._add()
        elif dice < 0.24 and self.open:
            self.abort(self.random.choice(list(self.open)))
        elif dice < 0.242:
            self.scheduler.flush()
        elif dice < 0.25:
            change = self.random.choice([self.scheduler.pin, self.scheduler.unpin])
            change(self.random.choice(self._prefixes), self.random.choice(TENANTS))

    def _add(self) -> None:
        dice = self.random
        prompt = [dice.randrange(VOCABULARY) for _ in range(dice.randint(1, 20))]
        if dice.random() < 0.6:
            prefix = dice.choice(self._prefixes)
            prompt = prefix + prompt if dice.random() < 0.8 else prefix[: BLOCK_TOKENS * dice.randint(1, 5)]
        self._next_id += 1
        request = AddSequence(
            sequence_id=self._next_id,
            prompt_ids=prompt,
            sampling=Sampling(),
            stopping=Stopping(max_tokens=dice.choice([1, 3, 8, 40]), stop_token_ids=(7,)),
            priority=dice.choice([0, 0, 0, 3, -10, 10]),
            prompt_logprobs=0 if dice.random() < 0.05 else None,
            cache_salt=dice.choice(TENANTS),
            deadline_s=dice.random() * 30.0 if dice.random() < 0.1 else None,
            ttft_slo_s=dice.random() if dice.random() < 0.2 else None,
        )
        self.scheduler.add(request, seed=0, now=self.now)
        self.open[self._next_id] = next(s for s in self.scheduler.waiting if s.sequence_id == self._next_id)
        self.labels[self._next_id] = []
        self.accepted_count += 1

    def _compute(self, chunk: Chunk) -> None:
        labels = self._labels(self.open[chunk.sequence_id])
        seen: list[int] = []
        for block_id in chunk.block_ids[: -(-chunk.start // BLOCK_TOKENS)]:
            seen += self.cache[block_id]
        assert seen[: chunk.start] == labels[: chunk.start], "a step would read another one's keys"
        for position in range(chunk.start, chunk.end):
            block_id = chunk.block_ids[position // BLOCK_TOKENS]
            assert self.pool.holder_count(block_id) == 1, "a shared block would be overwritten"
            self.cache[block_id][position % BLOCK_TOKENS] = labels[position]

    def _labels(self, sequence: Sequence) -> list[int]:
        """Its tokens, told apart from those of other tenants."""
        labels = self.labels[sequence.sequence_id]
        first = TENANTS.index(sequence.request.cache_salt) * VOCABULARY
        labels += [first + token for token in sequence.token_ids[len(labels) :]]
        return labels

    def _update(self, chunk: Chunk) -> None:
        sequence = self.scheduler.advance(chunk)
        assert sequence is self.open[chunk.sequence_id]
        if self.random.random() < 0.001:
            assert self.scheduler.end(chunk.sequence_id)
            self._ended(chunk.sequence_id, self.ends.failed)
        elif sequence.awaits_draw:
            assert chunk.logit_count >= 1
            token = zlib.crc32(array("B", sequence.token_ids).tobytes()) % VOCABULARY
            finish = sequence.finish_after(token)
            sequence.token_ids.append(token)
            if finish is not None:
                assert self.scheduler.end(chunk.sequence_id)
                self._ended(chunk.sequence_id, self.ends.finished)

    def _ended(self, sequence_id: int, how: set[int]) -> None:
        del self.open[sequence_id], self.labels[sequence_id]
        how.add(sequence_id)

    def _check_admissions(self, before: set[int]) -> None:
        """Nobody enters before a one that waits and goes first, so nobody waits beyond the bound for newer ones."""
        entered = [sequence for sequence in self.scheduler.running if sequence.sequence_id not in before]
        waiting = list(self.scheduler.waiting)
        if not entered or not waiting:
            return
        oldest = min(sequence.arrived_at for sequence in waiting)
        bound = starvation_bound_s(self.limits.ageing_s)
        assert max(sequence.precedence for sequence in entered) < waiting[0].precedence
        assert max(sequence.arrived_at for sequence in entered) - oldest <= bound
        assert all(sequence.preemption_count <= self.limits.most_preemptions for sequence in waiting)

    def _check_plan(self, plan: StepPlan) -> None:
        assert 0 < plan.token_count <= STEP_TOKENS
        assert plan.logit_count <= self.limits.logit_rows
        assert len(plan.chunks) <= SEQUENCES
        assert len({chunk.sequence_id for chunk in plan.chunks}) == len(plan.chunks)

    def _check_blocks(self) -> None:
        """Every block is held exactly as often as a running sequence's table names it; the others are free."""
        holders: list[list[tuple[Sequence, int]]] = [[] for _ in range(BLOCKS)]
        for sequence in self.scheduler.running:
            for index, block_id in enumerate(sequence.block_ids):
                holders[block_id].append((sequence, index))
        counts = [len(held) for held in holders]
        assert [self.pool.holder_count(block_id) for block_id in range(BLOCKS)] == counts
        promised = sum(sequence.promised_count for sequence in self.scheduler.running)
        assert self.pool.promised_count == promised <= counts.count(0)
        if not self.pool.kept_count:
            assert self.pool.free_count == counts.count(0) - promised
        for held in holders:
            if len(held) > 1:
                assert len({self._content(sequence, index) for sequence, index in held}) == 1
        assert not [waiting for waiting in self.scheduler.waiting if waiting.block_ids or waiting.promised_count]

    def _content(self, sequence: Sequence, index: int) -> tuple[str, tuple[int, ...]]:
        return sequence.request.cache_salt, tuple(sequence.token_ids[: (index + 1) * BLOCK_TOKENS])

    def _check_changes(self) -> None:
        """What the events add up to is what the pool stores."""
        changes = self.scheduler.take_cache_changes()
        if changes is not None:
            assert self.stored.isdisjoint(changes.stored) and self.stored.issuperset(changes.evicted)
            self.stored = self.stored.difference(changes.evicted).union(changes.stored)
        assert len(self.stored) == self.pool.stored_count
