"""Which instance gets a request: the one that holds most of its prompt, within a bound, else the least loaded one.

The load is what an instance reports and what was sent to it since. The bound is that of consistent hashing with bounded
loads: no instance gets a request for its prefix's sake that would give it more than 1.25 times its fair share.
Source: https://arxiv.org/abs/1608.01350
"""

from __future__ import annotations

import contextlib
import math
import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from meshkit.registry.base import Instance

_ASSUMED_CAPACITY = 16
"""Sequences at once, of an instance that has not said how many it takes."""
MOST_OF_FAIR_SHARE = 1.25
_NOTHING: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """What an instance last said of itself."""

    running_count: int
    waiting_count: int
    max_running_count: int
    prefill_backlog_tokens: int = 0
    is_draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    count: int
    """Sequences that run or wait."""
    capacity: int
    is_draining: bool = False

    @property
    def share(self) -> float:
        return self.count / self.capacity

    @property
    def is_full(self) -> bool:
        return self.is_draining or self.count >= self.capacity


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

    def choose(self, candidates: Iterable[Instance], resident_tokens: Mapping[str, int] = _NOTHING) -> Instance:
        """Who holds most of the prompt, by instance id, and is not over its bound; else the least loaded candidate.

        Equals are drawn by lot, so that routers do not follow each other.
        """
        known = list(candidates)
        loads = {instance.id: self._load_of(instance) for instance in known}
        holders = [
            instance
            for instance in known
            if resident_tokens.get(instance.id) and _is_within_bound(loads[instance.id], loads.values())
        ]

        def rank(instance: Instance) -> tuple[int, bool, float, float]:
            load = loads[instance.id]
            wanted = resident_tokens.get(instance.id, 0) if holders else 0
            return (-wanted, load.is_draining, load.share, random.random())

        return min(holders or known, key=rank)

    def _load_of(self, instance: Instance) -> _Load:
        reported = self._reported.get(instance.id)
        own_count = self.in_flight_count(instance)
        if reported is None:
            return _Load(count=own_count, capacity=_ASSUMED_CAPACITY)
        # A report is up to an interval old: what was sent from here may not be in it yet, and other routers send too.
        return _Load(
            count=max(reported.running_count + reported.waiting_count, own_count),
            capacity=max(1, reported.max_running_count),
            is_draining=reported.is_draining,
        )


def _is_within_bound(load: _Load, loads: Collection[_Load]) -> bool:
    """Whether one more is no more than the bound, and would not wait while another instance has a place."""
    if load.is_draining or (load.is_full and not all(other.is_full for other in loads)):
        return False
    fair_count = (sum(other.count for other in loads) + 1) * load.capacity / sum(other.capacity for other in loads)
    return load.count + 1 <= math.ceil(MOST_OF_FAIR_SHARE * fair_count)
