"""The tier on disk: the suite for all tiers, its budget, what goes first, and what it does with a folder or file."""

import asyncio
import contextlib
import dataclasses
import os
import sqlite3
import stat

import pytest

from meshkit.testing.clock import FakeClock
from services.cache.disk import schema
from services.cache.disk.failures import DiskProblem
from services.cache.disk.file import Limits, open_file
from services.cache.disk.folder import FILE_NAME, aside_bytes
from services.cache.disk.tier import DiskTier
from services.cache.disk.writing import Room, Writing
from services.cache.entry import Unreadable, encode
from services.cache.settings import L3Settings
from services.cache.tier import Swept, TierUnavailable
from tests.support.cache_stores import KEY, OTHER_KEY, StoreSuite, an_entry

PATIENCE_S = 10.0
SETTINGS = L3Settings(timeout_s=2.0, budget_bytes=64 * 1024 * 1024, min_free_bytes=0)
"""The time-out is longer than in production: a busy test machine must not look like a slow disk."""


@contextlib.asynccontextmanager
async def opened(folder, clock=None, **changes):
    clock = clock or FakeClock()
    tier = DiskTier(folder, dataclasses.replace(SETTINGS, **changes), clock)
    watching = asyncio.create_task(tier.watch())
    try:
        await until(lambda: tier.is_available, clock)
        yield tier
    finally:
        watching.cancel()
        await tier.close()


async def until(holds, clock) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await clock.advance(0.1)
            await asyncio.sleep(0.01)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "l3"


class TestDiskTier(StoreSuite):
    @pytest.fixture
    def clock(self):
        return FakeClock()

    @pytest.fixture
    def wall(self, clock):
        return clock.wall

    @pytest.fixture
    async def store(self, clock, folder):
        async with opened(folder, clock) as tier:
            yield tier


async def test_entries_outlive_the_tier_that_stored_them(folder):
    clock = FakeClock()
    entry = an_entry(wall=clock.wall())
    async with opened(folder, clock) as tier:
        await tier.put(KEY, entry)
    async with opened(folder, clock) as tier:
        assert await tier.get(KEY) == entry
        assert (await tier.size()).entry_count == 1


async def test_a_deleted_entry_is_gone_at_once_and_stays_gone_and_its_key_can_be_used_again(folder):
    clock = FakeClock()
    async with opened(folder, clock) as tier:
        await tier.put(KEY, an_entry(wall=clock.wall()))
        await tier.put(OTHER_KEY, an_entry(wall=clock.wall()))
        await tier.delete(KEY)
        await tier.delete(OTHER_KEY)
        await tier.put(OTHER_KEY, an_entry(b"new", wall=clock.wall()))
        assert await tier.get(KEY) is None
        assert (await tier.get(OTHER_KEY)).payload == b"new"
    async with opened(folder, clock) as tier:
        assert await tier.get(KEY) is None
        assert (await tier.get(OTHER_KEY)).payload == b"new"


async def test_it_is_unavailable_until_its_file_is_open(folder):
    tier = DiskTier(folder, SETTINGS, FakeClock())
    for call in (tier.get(KEY), tier.put(KEY, an_entry(wall=9e9)), tier.delete(KEY), tier.size()):
        with pytest.raises(TierUnavailable):
            await call
    await tier.close()


async def test_folder_and_files_are_for_their_owner_alone(folder):
    async with opened(folder) as tier:
        await tier.put(KEY, an_entry(wall=9e9))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert {FILE_NAME, f"{FILE_NAME}-wal", "lock"} <= set(modes)
        assert set(modes.values()) == {0o600}


async def test_a_folder_that_others_may_write_to_is_refused_until_that_ends(folder):
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(DiskProblem, match="chmod 700"):
        open_file(folder, Limits(budget_bytes=1 << 26, min_free_bytes=0))
    folder.chmod(0o700)
    async with opened(folder) as tier:
        assert await tier.get(KEY) is None


async def test_a_second_user_of_the_folder_is_refused_and_joins_when_the_first_has_left(folder):
    clock = FakeClock()
    async with opened(folder, clock) as first:
        await first.put(KEY, an_entry(wall=clock.wall()))
        second = DiskTier(folder, SETTINGS, clock)
        watching = asyncio.create_task(second.watch())
        await clock.advance(5)
        with pytest.raises(TierUnavailable):
            await second.get(KEY)
        assert await first.get(KEY) is not None
    await until(lambda: second.is_available, clock)
    assert await second.get(KEY) is not None
    watching.cancel()
    await second.close()


RUBBISH = {
    "rubbish": lambda file: file.write_bytes(b"rubbish" * 5000),
    "a broken header": lambda file: overwrite(file, 0, b"\0" * 100),
    "another version": lambda file: execute(file, f"PRAGMA user_version = {schema.VERSION + 1}"),
    "another application's": lambda file: execute(file, "PRAGMA application_id = 7"),
}


def overwrite(file, position: int, data: bytes) -> None:
    with file.open("r+b") as opened_file:
        opened_file.seek(position)
        opened_file.write(data)


def execute(file, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize("damage", RUBBISH)
async def test_a_file_that_is_not_ours_is_moved_aside_whole_and_a_new_one_is_started(folder, damage):
    async with opened(folder) as tier:
        await tier.put(KEY, an_entry(wall=9e9))
    RUBBISH[damage](folder / FILE_NAME)
    before = (folder / FILE_NAME).read_bytes()
    async with opened(folder) as tier:
        assert await tier.get(KEY) is None
        await tier.put(KEY, an_entry(wall=9e9))
        assert await tier.get(KEY) is not None
    assert (folder / "entries.aside.db").read_bytes() == before
    assert aside_bytes(folder) >= len(before)


async def test_a_file_that_is_damaged_while_it_is_used_is_replaced_off_the_path_of_requests(folder):
    clock = FakeClock()
    async with opened(folder, clock) as tier:
        for number in range(300):
            await tier.put(b"key %d" % number, an_entry(os.urandom(3000), wall=clock.wall()))
    file = folder / FILE_NAME
    async with opened(folder, clock) as tier:
        overwrite(file, schema.PAGE_BYTES, os.urandom(file.stat().st_size - schema.PAGE_BYTES))
        for number in range(300):
            with contextlib.suppress(TierUnavailable, Unreadable):
                assert await tier.get(b"key %d" % number) is None
        await until(lambda: tier.is_available, clock)
        await tier.put(KEY, an_entry(wall=clock.wall()))
        assert await tier.get(KEY) is not None


async def test_a_row_whose_bytes_are_not_its_entry_is_unreadable_once_and_then_gone(folder):
    clock = FakeClock()
    bodies = (b"", b"short", None, 7, "text", encode(OTHER_KEY, an_entry(wall=clock.wall())))
    for body in bodies[:2] + bodies[3:]:
        async with opened(folder, clock) as tier:
            await tier.put(KEY, an_entry(wall=clock.wall()))
        with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as connection:
            connection.execute("UPDATE bodies SET data = ?", (body,))
            connection.commit()
        async with opened(folder, clock) as tier:
            with pytest.raises(Unreadable):
                await tier.get(KEY)
            assert await tier.get(KEY) is None


@contextlib.contextmanager
def writing_in(folder, page_count=200, min_free_bytes=0):
    file = open_file(folder, Limits(budget_bytes=1 << 30, min_free_bytes=0))
    file.writer.execute(f"PRAGMA max_page_count = {page_count}")
    room = Room(page_count=page_count, min_free_bytes=min_free_bytes)
    yield file, Writing(file.writer, folder, room)
    file.close()


def kept(file) -> set[bytes]:
    return {key for (key,) in file.reader.execute("SELECT key FROM entries")}


def test_the_file_never_grows_over_its_budget_however_large_the_entries_are(folder):
    with writing_in(folder) as (file, writing):
        for number in range(400):
            writing.put(b"%d" % number, os.urandom(number * 97 % 30_000), 9e9)
            assert schema.number(file.writer, "PRAGMA page_count") <= 200
        assert writing.eviction_count > 200
        assert writing.entry_count == len(kept(file)) > 20


def test_what_was_asked_for_since_the_hand_came_by_stays_and_the_oldest_other_goes(folder):
    with writing_in(folder) as (file, writing):
        for number in range(30):
            writing.put(b"%d" % number, bytes(10_000), 9e9)
        asked_for = file.reader.execute("SELECT id FROM entries WHERE key IN (x'30', x'31')").fetchall()
        writing.mark([id for (id,) in asked_for])
        for number in range(30, 80):
            writing.put(b"%d" % number, bytes(10_000), 9e9)
        assert {b"0", b"1", b"79"} <= kept(file)
        assert b"2" not in kept(file)


def test_an_entry_that_is_larger_than_the_file_may_be_is_refused_and_later_ones_are_kept(folder):
    with writing_in(folder) as (file, writing):
        with pytest.raises(DiskProblem):
            writing.put(KEY, bytes(2_000_000), 9e9)
        writing.put(OTHER_KEY, b"small", 9e9)
        assert kept(file) == {OTHER_KEY}


def test_nothing_is_written_while_the_disk_has_less_than_must_stay_free(folder):
    with writing_in(folder, min_free_bytes=1 << 60) as (file, writing):
        with pytest.raises(DiskProblem, match="full"):
            writing.put(KEY, b"data", 9e9)
        assert kept(file) == set()


async def test_expired_entries_go_and_their_space_is_given_back_to_the_disk(folder):
    clock = FakeClock()
    async with opened(folder, clock) as tier:
        for number in range(100):
            await tier.put(b"old %d" % number, an_entry(os.urandom(100_000), wall=clock.wall(), lives_s=60))
        await tier.put(KEY, an_entry(wall=clock.wall(), lives_s=1e6))
        full_bytes = (folder / FILE_NAME).stat().st_size
        await clock.advance(61)
        async with asyncio.timeout(PATIENCE_S):
            while (folder / FILE_NAME).stat().st_size > full_bytes / 4:
                await clock.advance(SETTINGS.tidy_every_s)
                await asyncio.sleep(0.01)
        assert await tier.get(KEY) is not None
        assert (await tier.size()).entry_count == 1


async def test_a_sweep_forgets_what_cannot_be_read_too_without_counting_it(folder):
    clock = FakeClock()
    async with opened(folder, clock) as tier:
        await tier.put(b"a1", an_entry(wall=clock.wall()))
        await tier.put(b"a2", an_entry(wall=clock.wall()))
    execute(folder / FILE_NAME, "UPDATE bodies SET data = x'00' WHERE id = 1")
    async with opened(folder, clock) as tier:
        assert (await tier.sweep(b"a", lambda *_: False, apply=True)) == Swept(entry_count=0, size_bytes=0)
        assert (await tier.size()).entry_count == 1


async def test_a_write_that_does_not_succeed_rests_writing_and_not_reading(folder):
    clock = FakeClock()
    async with opened(folder, clock) as tier:
        await tier.put(KEY, an_entry(wall=clock.wall()))
        with contextlib.closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as intruder:
            intruder.execute("BEGIN IMMEDIATE")
            for _ in range(50):
                with pytest.raises(TierUnavailable):
                    await tier.put(OTHER_KEY, an_entry(wall=clock.wall()))
                assert await tier.get(KEY) is not None
        await clock.advance(SETTINGS.first_rest_s)
        await tier.put(OTHER_KEY, an_entry(wall=clock.wall()))
        assert await tier.get(OTHER_KEY) is not None
