"""What every registry promises, asked of each: Consul, files, and the fake that stands for them in tests."""

import asyncio
import itertools
import uuid

import pytest
import pytest_asyncio

from meshkit.clock import SystemClock
from meshkit.registry import Instance, InstanceSet, Registration, Registry
from meshkit.registry.consul import ConsulRegistry
from meshkit.registry.file import FileRegistry
from meshkit.registry.snapshot import SnapshotStore
from meshkit.testing import FakeRegistry

SOON_S = 1.0


@pytest.fixture(params=["consul", "file", "fake"])
def make_one(request, tmp_path):
    """Makes the registry of one process; all of them share one medium."""
    if request.param == "fake":
        return FakeRegistry().as_another_process
    if request.param == "file":
        return lambda: FileRegistry(tmp_path, SystemClock())
    url, numbers = request.getfixturevalue("consul_url"), itertools.count()

    def make_consul() -> ConsulRegistry:
        snapshots = SnapshotStore(tmp_path / str(next(numbers)))
        return ConsulRegistry(url=url, token="", clock=SystemClock(), snapshots=snapshots, check_interval_s=60)

    return make_consul


@pytest_asyncio.fixture
async def process(make_one):
    """Makes the registry as one process after another has it."""
    made: list[Registry] = []

    def make() -> Registry:
        registry = make_one()
        made.append(registry)
        return registry

    yield make
    for registry in made:
        await registry.deregister()
        await registry.close()


@pytest.fixture
def service():
    return f"mesh-probe-{uuid.uuid4().hex[:8]}"


def registration(service: str, name: str, **metadata: str) -> Registration:
    return Registration(
        id=f"{service}-{name}", service=service, host="127.0.0.1", port=7, grpc_name="x", metadata=metadata
    )


async def until(instances: InstanceSet, *names: str) -> tuple[Instance, ...]:
    """Wait, bounded, until exactly these are known."""
    async with asyncio.timeout(SOON_S):
        while [i.id.rsplit("-", 1)[1] for i in instances.current] != list(names):
            await instances.changed()
    return instances.current


async def test_a_registered_instance_is_seen_by_others_with_address_and_metadata(process, service):
    instances = process().watch(service)
    await process().register(registration(service, "a", model="m", tier="small"))
    (found,) = await until(instances, "a")
    assert (found.service, found.address, found.is_passing) == (service, "127.0.0.1:7", True)
    assert found.metadata == {"model": "m", "tier": "small"}


async def test_whoever_comes_later_sees_those_before(process, service):
    for name in "ab":
        await process().register(registration(service, name))
    await until(process().watch(service), "a", "b")


async def test_a_departure_reaches_every_watcher_within_a_second(process, service):
    stays, leaves, watchers = process(), process(), [process().watch(service) for _ in range(2)]
    await stays.register(registration(service, "a"))
    await leaves.register(registration(service, "b"))
    for instances in watchers:
        await until(instances, "a", "b")
    await leaves.deregister()
    for instances in watchers:
        await until(instances, "a")
        assert not instances.is_stale


async def test_the_last_instance_stays_known_as_stale(process, service):
    only, instances = process(), process().watch(service)
    await only.register(registration(service, "a"))
    await until(instances, "a")
    await only.deregister()
    async with asyncio.timeout(SOON_S):
        while not instances.is_stale:
            await asyncio.sleep(0.01)
    await until(instances, "a")


async def test_an_instance_that_registers_again_replaces_itself(process, service):
    instances = process().watch(service)
    await process().register(registration(service, "a", revision="1"))
    await until(instances, "a")
    await process().register(registration(service, "a", revision="2"))
    async with asyncio.timeout(SOON_S):
        while instances.current[0].metadata != {"revision": "2"}:
            await instances.changed()
    assert len(instances.current) == 1


async def test_services_are_kept_apart(process, service):
    await process().register(registration(f"{service}-other", "b"))
    await process().register(registration(service, "a"))
    await until(process().watch(service), "a")


async def test_a_watch_of_one_service_is_one_object(process, service):
    registry = process()
    assert registry.watch(service) is registry.watch(service)


async def test_leaving_twice_or_without_having_come_is_no_error(process, service):
    registry = process()
    await registry.deregister()
    await registry.register(registration(service, "a"))
    await registry.deregister()
    await registry.deregister()


async def test_closing_ends_every_task(process, service):
    registry, before = process(), asyncio.all_tasks()
    registry.watch(service)
    await registry.register(registration(service, "a"))
    await registry.deregister()
    await registry.close()
    assert asyncio.all_tasks() == before
