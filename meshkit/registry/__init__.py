"""Who runs where. `base` states the port; behind it are `consul`, `file` and `meshkit.testing.FakeRegistry`."""

from meshkit.registry.base import Instance, InstanceSet, Registration, Registry

__all__ = ["Instance", "InstanceSet", "Registration", "Registry"]
