"""Which instances may be asked now: the registry's view, corrected by what calls have shown (passive health).

Only a peer's own failures count against it (unreachable, died, too slow to connect); a caller's bad request never
does. After a failure an instance rests, longer each time, and is then tried again by the next call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from meshkit.clock import Clock
from meshkit.errors import BackendDown
from meshkit.registry.base import Instance, InstanceSet

_FIRST_REST_S = 0.5
_LONGEST_REST_S = 10.0


@dataclass(slots=True)
class _Health:
    rest_s: float = 0.0
    rests_until: float = 0.0


class Picker:
    """Chooses among the instances of one service, in turn."""

    def __init__(self, instances: InstanceSet, clock: Clock) -> None:
        self.instances = instances
        self._clock = clock
        self._health: dict[str, _Health] = {}
        self._turn = 0

    def candidates(
        self, wanted: Callable[[Instance], bool] | None = None, *, exclude: Collection[str] = ()
    ) -> list[Instance]:
        """Instances to ask: the healthy ones, else those that don't rest, else all that are known."""
        known = [i for i in self.instances.current if i.id not in exclude and (wanted is None or wanted(i))]
        healthy = [i for i in known if i.is_passing and not self.is_resting(i)]
        return healthy or [i for i in known if not self.is_resting(i)] or known

    def pick(self, *, exclude: Collection[str] = (), wanted: Callable[[Instance], bool] | None = None) -> Instance:
        """The next instance in turn whose id is not excluded; BackendDown if there is none."""
        found = self.candidates(wanted, exclude=exclude)
        if not found:
            other = "other " if exclude else ""
            raise BackendDown(f"no {other}instance of {self.instances.service} is known")
        self._turn += 1
        return found[self._turn % len(found)]

    def is_resting(self, instance: Instance) -> bool:
        """Whether recent calls failed and its rest has not ended."""
        health = self._health.get(instance.id)
        return health is not None and self._clock.now() < health.rests_until

    def succeeded(self, instance: Instance) -> None:
        """A call was answered, whatever the answer."""
        self._health.pop(instance.id, None)

    def failed(self, instance: Instance) -> None:
        """A call was not answered, through the instance's own fault. Calls that fail together count as one failure."""
        if len(self._health) > 2 * len(self.instances.current) + 16:
            self._forget_departed()
        health = self._health.setdefault(instance.id, _Health())
        now = self._clock.now()
        if now < health.rests_until:
            return
        health.rest_s = min(_LONGEST_REST_S, health.rest_s * 2) if health.rest_s else _FIRST_REST_S
        health.rests_until = now + health.rest_s

    def _forget_departed(self) -> None:
        known = {instance.id for instance in self.instances.current}
        self._health = {key: health for key, health in self._health.items() if key in known}
