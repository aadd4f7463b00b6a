"""What one instance makes of rules: its own, others', while the shared memory is there, away, and empty."""

import asyncio
import contextlib
import dataclasses

import pytest

from meshkit.clock import SystemClock
from meshkit.errors import BackendDown
from meshkit.telemetry import names
from meshkit.testing.clock import FakeClock
from services.cache.entry import Entry
from services.cache.epoch_file import EpochFile
from services.cache.epoch_keeper import INVALIDATED, OUT_OF_TOUCH, EpochKeeper
from services.cache.epochs import EVERYTHING
from services.cache.request_key import storage_key
from services.cache.settings import EpochSettings
from services.cache.shared_epochs import LocalEpochs
from tests.support.shared_epochs import ANN, BOB, ONCE, TAG, FlakyEpochs, SharedEpochsSuite

SETTINGS = EpochSettings()
KEY = storage_key("ann", bytes(32))


class TestLocalEpochs(SharedEpochsSuite):
    @pytest.fixture
    def memory(self):
        return LocalEpochs(FakeClock())

    @pytest.fixture
    def flush(self, memory):
        async def forget():
            memory.forget()

        return forget


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def memory(clock):
    return FlakyEpochs(clock)


def a_file(path) -> EpochFile:
    return EpochFile(path, max_rules=SETTINGS.max_rules)


def alone(clock, file=None) -> EpochKeeper:
    return EpochKeeper(SETTINGS, longest_life_s=100, clock=clock, file=file)


@contextlib.asynccontextmanager
async def instance(clock, memory, file=None):
    keeper = EpochKeeper(SETTINGS, longest_life_s=100, clock=clock, shared=memory, file=file)
    await keeper.start()
    running = asyncio.create_task(keeper.run())
    await clock.advance(0)
    try:
        yield keeper
    finally:
        running.cancel()


def entry_now(keeper, clock, *, epoch=None, tags=("t",)) -> Entry:
    wall = clock.wall()
    number = keeper.number(ANN) if epoch is None else epoch
    return Entry(payload=b"x", stored_at=wall, fresh_until=wall + 99, expires_at=wall + 99, epoch=number, tags=tags)


async def test_a_rule_holds_where_it_was_given_as_soon_as_the_call_returns(clock):
    keeper = alone(clock)
    entry = entry_now(keeper, clock)
    assert keeper.objection(KEY, entry) == ""
    given = await keeper.give(ANN, TAG)
    assert given.is_shared
    assert keeper.objection(KEY, entry) == INVALIDATED
    assert keeper.objection(KEY, entry_now(keeper, clock)) == ""
    assert keeper.number(BOB) == 0


async def test_another_instance_obeys_within_the_bound(clock, memory):
    async with instance(clock, memory) as one, instance(clock, memory) as other:
        entry = entry_now(other, clock)
        assert (await one.give(ANN, EVERYTHING)).is_shared
        await clock.advance(SETTINGS.bound_s)
        assert other.objection(KEY, entry) == INVALIDATED
        assert other.number(ANN) == one.number(ANN)


async def test_a_rule_given_while_the_memory_is_away_holds_here_at_once_and_elsewhere_when_it_is_back(clock, memory):
    async with instance(clock, memory) as one, instance(clock, memory) as other:
        entry = entry_now(other, clock)
        memory.is_down = True
        assert not (await one.give(ANN, EVERYTHING)).is_shared
        assert one.objection(KEY, entry) == INVALIDATED
        await clock.advance(5)
        newer = entry_now(one, clock)
        assert (one.objection(KEY, newer), other.objection(KEY, entry)) == ("", "")
        memory.is_down = False
        await clock.advance(SETTINGS.bound_s)
        assert other.objection(KEY, entry) == INVALIDATED
        assert other.number(ANN) > newer.epoch


async def test_out_of_touch_entries_are_served_for_the_grace_and_then_none_until_contact_is_back(clock, memory):
    async with instance(clock, memory) as keeper:
        entry = entry_now(keeper, clock)
        memory.is_down = True
        await clock.advance(SETTINGS.grace_s - 1)
        assert keeper.objection(KEY, entry) == ""
        await clock.advance(2)
        assert keeper.objection(KEY, entry) == OUT_OF_TOUCH
        assert keeper.objection(KEY, entry_now(keeper, clock)) == OUT_OF_TOUCH
        memory.is_down = False
        await clock.advance(SETTINGS.bound_s)
        assert keeper.objection(KEY, entry) == ""


async def test_before_the_first_contact_only_what_is_younger_than_the_process_is_served(clock, memory):
    memory.is_down = True
    before = dataclasses.replace(entry_now(alone(clock), clock), stored_at=clock.wall() - 1)
    async with instance(clock, memory) as keeper:
        assert keeper.objection(KEY, before) == OUT_OF_TOUCH
        assert keeper.objection(KEY, entry_now(keeper, clock)) == ""
        memory.is_down = False
        await clock.advance(SETTINGS.bound_s)
        assert keeper.objection(KEY, before) == ""


async def test_a_look_up_waits_for_an_instance_that_was_frozen_to_ask_first(clock, memory):
    async with instance(clock, memory) as one:
        frozen = EpochKeeper(SETTINGS, longest_life_s=100, clock=clock, shared=memory)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(frozen.run(), 0.01)
        entry = entry_now(frozen, clock)
        await one.give(ANN, EVERYTHING)
        await clock.advance(30)
        assert frozen.objection(KEY, entry) == ""
        look_up = asyncio.create_task(frozen.settle())
        await clock.advance(0)
        assert not look_up.done()
        thawed = asyncio.create_task(frozen.run())
        await look_up
        assert frozen.objection(KEY, entry) == INVALIDATED
        thawed.cancel()


async def test_the_first_look_up_waits_for_the_first_contact_and_not_for_longer_than_the_bound(clock, memory):
    settings = dataclasses.replace(SETTINGS, poll_s=0.01, timeout_s=0.01, bound_s=0.05)
    memory.is_down = True
    keeper = EpochKeeper(settings, longest_life_s=100, clock=SystemClock(), shared=memory)
    running = asyncio.create_task(keeper.run())
    await asyncio.wait_for(keeper.settle(), 5)
    assert keeper.objection(KEY, dataclasses.replace(entry_now(keeper, clock), stored_at=0)) == OUT_OF_TOUCH
    running.cancel()
    memory.is_down = False
    late = EpochKeeper(SETTINGS, longest_life_s=100, clock=SystemClock(), shared=memory)
    look_up = asyncio.create_task(late.settle())
    await asyncio.sleep(0)
    assert not look_up.done()
    running = asyncio.create_task(late.run())
    await asyncio.wait_for(look_up, 5)
    assert late.objection(KEY, dataclasses.replace(entry_now(late, clock), stored_at=0)) == ""
    running.cancel()


async def test_silence_is_logged_once_with_its_cause(clock, memory, caplog):
    async with instance(clock, memory):
        memory.is_down = True
        await clock.advance(5)
        memory.is_down = False
        await clock.advance(1)
        memory.is_down = True
        await clock.advance(5)
    told = [record for record in caplog.records if record.getMessage() == names.LOG_CACHE_EPOCHS_UNHEARD]
    assert len(told) == 2
    assert told[0].fields["error"] == "down"


async def test_a_look_up_does_not_wait_for_a_memory_that_is_known_to_be_away(clock, memory):
    async with instance(clock, memory) as keeper:
        memory.is_down = True
        await clock.advance(5)
        await asyncio.wait_for(keeper.settle(), 0.1)


async def test_a_memory_that_forgot_is_filled_again_by_whoever_knows(clock, memory):
    async with instance(clock, memory) as one, instance(clock, memory) as other:
        entry = entry_now(other, clock)
        await one.give(ANN, TAG)
        await clock.advance(SETTINGS.bound_s)
        memory.forget()
        await one.give(BOB, EVERYTHING)
        await clock.advance(SETTINGS.bound_s)
        async with instance(clock, memory) as third:
            assert third.objection(KEY, entry) == INVALIDATED
            assert third.number(BOB) == one.number(BOB) == other.number(BOB) > 0


async def test_numbers_grow_after_everything_was_forgotten(clock):
    first = (await alone(clock).give(ANN, EVERYTHING)).issued.number
    await clock.advance(1)
    assert (await alone(clock).give(ANN, EVERYTHING)).issued.number > first


async def test_an_order_with_a_key_is_one_wherever_it_is_repeated(clock, memory):
    async with instance(clock, memory) as one, instance(clock, memory) as other:
        first = await one.give(ANN, TAG, ONCE)
        await one.finish(ONCE, first, b"outcome")
        again = await other.give(ANN, TAG, ONCE)
        assert (again.issued.number, again.issued.outcome) == (first.issued.number, b"outcome")
        assert other.number(ANN) == first.issued.number


async def test_another_order_under_the_same_key_changes_nothing(clock):
    keeper = alone(clock)
    number = (await keeper.give(ANN, TAG, ONCE)).issued.number
    clash = await keeper.give(ANN, EVERYTHING, dataclasses.replace(ONCE, fingerprint=b"g" * 16))
    assert clash.issued.fingerprint == ONCE.fingerprint
    assert [rule.selector for rule in keeper.known(ANN).rules()] == [TAG]
    assert keeper.number(ANN) == number


async def test_old_rules_are_folded_when_a_new_one_is_given(clock, memory):
    keeper = EpochKeeper(SETTINGS, longest_life_s=100, clock=clock, shared=memory)
    old = (await keeper.give(ANN, TAG)).issued.number
    await clock.advance(100 + 3601)
    await keeper.give(ANN, TAG)
    assert keeper.objection(KEY, entry_now(keeper, clock, epoch=old - 1, tags=())) == INVALIDATED
    assert keeper.known(ANN).is_visible(KEY, entry_now(keeper, clock, epoch=old, tags=()))
    assert {rule.selector for rule in (await memory.hear(0)).rules} == {EVERYTHING, TAG}


async def test_what_an_instance_knew_it_knows_after_a_restart(clock, memory, tmp_path):
    file = a_file(tmp_path / "epochs")
    entry = entry_now(alone(clock), clock)
    keeper = alone(clock, file)
    await keeper.start()
    await keeper.give(ANN, TAG)
    again = alone(clock, a_file(tmp_path / "epochs"))
    await again.start()
    assert again.objection(KEY, entry) == INVALIDATED
    assert again.number(ANN) == keeper.number(ANN)


async def test_an_unshared_rule_is_told_to_the_others_after_a_restart(clock, memory, tmp_path):
    memory.is_down = True
    file = a_file(tmp_path / "epochs")
    async with instance(clock, memory, file) as keeper:
        await keeper.give(ANN, TAG)
    memory.is_down = False
    async with instance(clock, memory) as other:
        entry = entry_now(other, clock)
        again = EpochKeeper(SETTINGS, longest_life_s=100, clock=clock, shared=memory, file=file)
        await again.start()
        running = asyncio.create_task(again.run())
        await clock.advance(SETTINGS.bound_s)
        assert other.objection(KEY, entry) == INVALIDATED
        running.cancel()


async def test_two_processes_that_meet_at_one_file_forget_nothing_of_each_other(clock, tmp_path):
    one, other = (alone(clock, a_file(tmp_path / "epochs")) for _ in range(2))
    await one.start()
    await other.start()
    await one.give(ANN, TAG)
    await other.give(BOB, EVERYTHING)
    assert other.number(ANN) == one.number(ANN)
    last = alone(clock, a_file(tmp_path / "epochs"))
    await last.start()
    assert (last.number(ANN), last.number(BOB)) == (one.number(ANN), other.number(BOB))


@pytest.mark.parametrize("damage", [b"", b"MCR\x01", b"\x00" * 100])
async def test_a_damaged_file_means_that_nothing_from_before_is_believed_ever_again(clock, tmp_path, damage):
    path = tmp_path / "epochs"
    path.write_bytes(damage)
    before = entry_now(alone(clock), clock)
    await clock.advance(1)
    for _ in range(2):
        keeper = alone(clock, a_file(path))
        await keeper.start()
        assert keeper.objection(KEY, before) == INVALIDATED
    assert keeper.objection(KEY, entry_now(keeper, clock)) == ""


async def test_a_rule_that_a_restart_would_forget_is_obeyed_and_refused(clock, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    keeper = alone(clock, a_file(tmp_path / "file" / "epochs"))
    entry = entry_now(keeper, clock)
    with pytest.raises(BackendDown, match="restart"):
        await keeper.give(ANN, TAG)
    assert keeper.objection(KEY, entry) == INVALIDATED
