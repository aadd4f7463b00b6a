"""Test doubles and real backends for tests: the mesh's own and those of its users.

`running_server` a service on a free port · `FakeClock` time that moves when told · `FakeRegistry` instances as told ·
`FaultProxy` a TCP link that can be cut, frozen or slowed · `consul_agent`, `valkey_server` the real things.
"""

from meshkit.testing.clock import FakeClock
from meshkit.testing.fault_proxy import FaultProxy
from meshkit.testing.registry import FakeRegistry
from meshkit.testing.running import running_server, test_chassis

__all__ = ["FakeClock", "FakeRegistry", "FaultProxy", "running_server", "test_chassis"]
