import pytest

from meshkit.errors import BackendDown
from meshkit.picker import Picker
from meshkit.registry import Instance, InstanceSet
from meshkit.testing import FakeClock


def instance(name: str, *, is_passing: bool = True) -> Instance:
    return Instance(id=name, service="mesh-cache", address=f"{name}:1", is_passing=is_passing)


def picker_of(*instances: Instance) -> tuple[Picker, FakeClock]:
    known = InstanceSet("mesh-cache")
    known.replace(instances)
    clock = FakeClock()
    return Picker(known, clock), clock


def picks(picker: Picker, count: int) -> set[str]:
    return {picker.pick().id for _ in range(count)}


A, B, C = instance("a"), instance("b"), instance("c")


def test_instances_take_turns():
    picker, _ = picker_of(A, B, C)
    taken = [picker.pick().id for _ in range(6)]
    assert sorted(taken[:3]) == sorted(taken[3:]) == ["a", "b", "c"]


def test_without_instances_the_service_is_named():
    picker, _ = picker_of()
    with pytest.raises(BackendDown, match="mesh-cache"):
        picker.pick()


async def test_an_instance_that_failed_rests_and_is_then_asked_again():
    picker, clock = picker_of(A, B)
    picker.failed(A)
    assert picks(picker, 10) == {"b"}
    await clock.advance(0.6)
    assert picks(picker, 10) == {"a", "b"}


async def test_rests_grow_with_each_failure_up_to_a_bound():
    picker, clock = picker_of(A, B)
    rests_s = []
    for _ in range(8):
        picker.failed(A)
        begun = clock.now()
        while picker.is_resting(A):
            await clock.advance(0.25)
        rests_s.append(clock.now() - begun)
    assert rests_s[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert set(rests_s[5:]) == {10.0}


async def test_calls_that_fail_together_count_as_one_failure():
    picker, clock = picker_of(A, B)
    for _ in range(5000):
        picker.failed(A)
    await clock.advance(0.6)
    assert not picker.is_resting(A)


async def test_success_ends_all_suspicion():
    picker, clock = picker_of(A, B)
    for _ in range(5):
        picker.failed(A)
        await clock.advance(20)
    picker.succeeded(A)
    picker.failed(A)
    await clock.advance(0.6)
    assert not picker.is_resting(A)


def test_where_all_rest_all_are_still_asked():
    picker, _ = picker_of(A, B)
    picker.failed(A)
    picker.failed(B)
    assert picks(picker, 10) == {"a", "b"}


def test_what_the_registry_calls_critical_is_asked_last():
    picker, _ = picker_of(A, instance("b", is_passing=False))
    assert picks(picker, 10) == {"a"}
    picker.failed(A)
    assert picks(picker, 10) == {"b"}


def test_a_retry_goes_to_another_instance_even_if_that_one_rests():
    picker, _ = picker_of(A, B)
    picker.failed(B)
    assert picker.pick(exclude={"a"}).id == "b"
    with pytest.raises(BackendDown, match="no other instance"):
        picker.pick(exclude={"a", "b"})


def test_only_wanted_instances_are_picked():
    picker, _ = picker_of(A, B)
    assert picker.pick(wanted=lambda found: found.id == "b").id == "b"


def test_departed_instances_are_forgotten():
    picker, _ = picker_of(A)
    for number in range(100):
        picker.failed(instance(f"gone-{number}"))
    assert len(picker._health) < 30
