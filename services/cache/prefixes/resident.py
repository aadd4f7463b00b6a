"""Which blocks lie in which engine's prefix cache now, as the engines' numbered events say.

An engine that is not heard holds nothing that is told: after a lost link, or a gap in the numbers, it begins with a
snapshot again. Blocks of all engines together are bounded; what comes above the bound is passed over, so hints get
shorter and never wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile


class MissedEvents(Exception):
    """Events of an engine are missing: only a snapshot helps."""


@dataclass(slots=True)
class _Engine:
    model: str
    revision: str
    number: int
    hashes: set[int]


class ResidentBlocks:
    """Block hashes by instance."""

    def __init__(self, *, max_blocks: int) -> None:
        self._max_blocks = max_blocks
        self._engines: dict[str, _Engine] = {}

    @property
    def block_count(self) -> int:
        """Of all engines."""
        return sum(len(engine.hashes) for engine in self._engines.values())

    def begin(self, instance_id: str, *, model: str, revision: str, number: int, hashes: Collection[int]) -> None:
        """Everything that this instance holds, as of the event with this number."""
        self.forget(instance_id)
        room = self._max_blocks - self.block_count
        self._engines[instance_id] = _Engine(model, revision, number, set(list(hashes)[:room]))

    def change(self, instance_id: str, number: int, *, stored: Iterable[int] = (), evicted: Iterable[int] = ()) -> None:
        """The instance's next event. Raises MissedEvents where it is not the next one."""
        engine = self._engines.get(instance_id)
        if engine is None or number != engine.number + 1:
            raise MissedEvents
        engine.number = number
        engine.hashes.difference_update(evicted)
        room = self._max_blocks - self.block_count
        engine.hashes.update(list(stored)[:room])

    def forget(self, instance_id: str) -> None:
        """The instance is gone, or its link is."""
        self._engines.pop(instance_id, None)

    def runs(self, hashes: Sequence[int], *, model: str, revisions: Collection[str]) -> dict[str, int]:
        """How many of these blocks, from the first on without a gap, each instance of the model holds, if any."""
        found = {}
        for instance_id, engine in self._engines.items():
            if engine.model == model and engine.revision in revisions:
                count = sum(1 for _ in takewhile(engine.hashes.__contains__, hashes))
                if count:
                    found[instance_id] = count
        return found
