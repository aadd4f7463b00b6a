"""Which instance gets a request: the least loaded one, by what it reports and what was sent to it since."""

from __future__ import annotations

import contextlib
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshkit.registry.base import Instance

_ASSUMED_CAPACITY = 16
"""Sequences at once, of an instance that has not said how many it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """What an instance last said of itself."""

    running_count: int
    waiting_count: int
    max_running_count: int
    prefill_backlog_tokens: int = 0
    is_draining: bool = False


class Balancer:
    """Loads by instance. Requests in flight from here are counted by leaving a block, so that no count can leak."""

    def __init__(self) -> None:
        self._reported: dict[str, EngineLoad] = {}
        self._in_flight: defaultdict[str, int] = defaultdict(int)

    def report(self, instance_id: str, load: EngineLoad) -> None:
        """Take what an instance says."""
        self._reported[instance_id] = load

    def forget(self, instance_id: str) -> None:
        """Its report can no longer be trusted: the link is lost or the instance has gone."""
        self._reported.pop(instance_id, None)

    @contextlib.contextmanager
    def sending_to(self, instance: Instance) -> Iterator[None]:
        """Count a request in flight while the block lasts."""
        self._in_flight[instance.id] += 1
        try:
            yield
        finally:
            self._in_flight[instance.id] -= 1
            if not self._in_flight[instance.id]:
                del self._in_flight[instance.id]

    def in_flight_count(self, instance: Instance) -> int:
        """Requests from this router that the instance has now."""
        return self._in_flight.get(instance.id, 0)

    def choose(self, candidates: Iterable[Instance]) -> Instance:
        """The least loaded candidate; equals are drawn by lot, so that routers do not follow each other."""
        return min(candidates, key=lambda instance: (*self._load_of(instance), random.random()))

    def _load_of(self, instance: Instance) -> tuple[bool, float]:
        reported = self._reported.get(instance.id)
        own_count = self.in_flight_count(instance)
        if reported is None:
            return (False, float(own_count) / _ASSUMED_CAPACITY)
        # A report is up to an interval old: what was sent from here may not be in it yet, and other routers send too.
        sequence_count = max(reported.running_count + reported.waiting_count, own_count)
        return (reported.is_draining, sequence_count / max(1, reported.max_running_count))
