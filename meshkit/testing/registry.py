"""A registry in memory that says what a test tells it."""

from __future__ import annotations

from collections.abc import Mapping

from meshkit.registry.base import Instance, InstanceSet, Registration


class FakeRegistry:
    """Registered instances appear in watches at once; `announce` and `withdraw` add and take others."""

    def __init__(self, sets: dict[str, InstanceSet] | None = None) -> None:
        self._sets = {} if sets is None else sets
        self._own: Registration | None = None

    def as_another_process(self) -> FakeRegistry:
        """The same instances, with a registration of its own."""
        return FakeRegistry(self._sets)

    def announce(
        self, service: str, address: str, metadata: Mapping[str, str] | None = None, *, id: str = ""
    ) -> Instance:
        """Make an instance known."""
        instance = Instance(id=id or f"{service}-{address}", service=service, address=address, metadata=metadata or {})
        known = self.watch(service)
        known.replace((*(i for i in known.current if i.id != instance.id), instance))
        return instance

    def withdraw(self, instance: Instance) -> None:
        """Take an instance away; the last one of a service stays, as with every registry."""
        known = self.watch(instance.service)
        known.replace(tuple(i for i in known.current if i.id != instance.id))

    async def register(self, registration: Registration) -> None:
        self._own = registration
        address = f"{registration.host}:{registration.port}"
        self.announce(registration.service, address, registration.metadata, id=registration.id)

    async def deregister(self) -> None:
        if self._own is not None:
            service, own_id, self._own = self._own.service, self._own.id, None
            known = self.watch(service)
            known.replace(tuple(i for i in known.current if i.id != own_id))

    def watch(self, service: str) -> InstanceSet:
        return self._sets.setdefault(service, InstanceSet(service))

    async def close(self) -> None: ...
