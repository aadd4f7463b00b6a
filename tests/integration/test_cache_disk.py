"""The tier on disk as a whole service has it: kill -9, a disk that takes nothing, and a folder that can't be used."""

import asyncio
import contextlib
import resource
import sqlite3
import subprocess

import pytest
import valkey.asyncio as valkey_client

from mesh.cache.v1 import cache_service_pb2 as pb
from meshkit.testing.clock import FakeClock
from meshkit.testing.valkey import valkey_server
from meshkit.valkey_binary import ValkeyUnavailable, valkey_binary
from services.cache.disk.folder import FILE_NAME
from services.cache.disk.tier import DiskTier
from services.cache.settings import L3Settings
from services.cache.tier import TierUnavailable
from tests.support.cache_process import cache_process, commit, found_in, tier_stats
from tests.support.cache_stores import an_entry
from tests.support.real import missing

PATIENCE_S = 20.0
KILLS = 3


def settings(folder) -> dict[str, object]:
    # The first tier keeps nothing for long, so that hits show the third; the time-out is for a busy test machine.
    return {
        "L1__TTL_S": 0.001,
        "L3__DIRECTORY": folder,
        "L3__TIMEOUT_S": 0.5,
        "L3__BUDGET_BYTES": 64 * 1024 * 1024,
        "L3__MIN_FREE_BYTES": 0,
    }


async def until_kept_on_disk(stub, text: str) -> None:
    """Commits until the third tier, which may still be opening or resting, has the answer."""
    async with asyncio.timeout(PATIENCE_S):
        while await found_in(stub, text) != pb.CACHE_TIER_L3:
            await commit(stub, text)
            await asyncio.sleep(0.02)


async def test_no_half_entry_is_served_after_the_process_was_killed_in_the_middle_of_commits(tmp_path):
    folder = tmp_path / "l3"
    texts = [f"{number}" for number in range(2000)]
    for round_number in range(KILLS):
        async with cache_process(**settings(folder)) as cache:
            await until_kept_on_disk(cache.stub, f"round {round_number}")

            async def keep_committing(share, stub=cache.stub):
                for text in share:
                    await commit(stub, text, padding=20_000)

            writers = [asyncio.create_task(keep_committing(texts[start::4])) for start in range(4)]
            kept = (await tier_stats(cache.stub, pb.CACHE_TIER_L3)).entry_count
            async with asyncio.timeout(PATIENCE_S):
                while (await tier_stats(cache.stub, pb.CACHE_TIER_L3)).entry_count < kept + 30:
                    await asyncio.sleep(0.01)
            cache.process.kill()
            await asyncio.gather(*writers, return_exceptions=True)
        with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT count(*) FROM entries").fetchone()[0] > 30
    async with cache_process(**settings(folder)) as cache:
        await until_kept_on_disk(cache.stub, "after the kills")
        assert await found_in(cache.stub, "round 0") == pb.CACHE_TIER_L3
        found = [await found_in(cache.stub, text) for text in texts[:200]]
        assert found.count(pb.CACHE_TIER_L3) > 20
        assert (await tier_stats(cache.stub, pb.CACHE_TIER_L3)).unreadable_count == 0


async def test_a_disk_that_takes_no_more_stops_writing_and_nothing_else_until_it_takes_more_again(tmp_path):
    async with cache_process(**settings(tmp_path / "l3")) as cache:
        await until_kept_on_disk(cache.stub, "before")
        unlimited = resource.prlimit(cache.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(cache.process.pid, resource.RLIMIT_FSIZE, (8192, unlimited[1]))
        for number in range(100):
            await commit(cache.stub, f"{number}", padding=50_000)
            assert await found_in(cache.stub, "before") == pb.CACHE_TIER_L3
        full = await tier_stats(cache.stub, pb.CACHE_TIER_L3)
        assert full.error_count > 0
        assert full.unreadable_count == 0
        resource.prlimit(cache.process.pid, resource.RLIMIT_FSIZE, unlimited)
        await until_kept_on_disk(cache.stub, "after")
        assert await found_in(cache.stub, "before") == pb.CACHE_TIER_L3


async def test_a_service_whose_folder_cannot_be_made_serves_without_it_and_says_so_in_its_statistics(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    async with cache_process(**settings(tmp_path / "file" / "l3")) as cache:
        await commit(cache.stub, "a")
        assert (await tier_stats(cache.stub, pb.CACHE_TIER_L3)).entry_count == -1


async def test_what_a_flushed_server_lost_comes_back_from_the_disk_and_is_shared_again(tmp_path):
    try:
        valkey_binary()
    except ValkeyUnavailable as problem:
        missing(str(problem))
    async with (
        valkey_server() as server,
        cache_process(**settings(tmp_path / "l3"), L2__URL=server.url, L2__TIMEOUT_S=0.5) as cache,
    ):
        async with asyncio.timeout(PATIENCE_S):
            while (await tier_stats(cache.stub, pb.CACHE_TIER_L3)).entry_count < 1:
                await commit(cache.stub, "a")
                await asyncio.sleep(0.02)
        async with valkey_client.Valkey.from_url(server.url) as client:
            await client.flushall()
        seen = set()
        async with asyncio.timeout(PATIENCE_S):
            while pb.CACHE_TIER_L2 not in seen:
                seen.add(await found_in(cache.stub, "a"))
                await asyncio.sleep(0.02)
        assert pb.CACHE_TIER_L3 in seen
        assert 0 not in seen


@contextlib.contextmanager
def small_disk(folder, options: str):
    """A real file system of its own, where the test may mount one."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.asynccontextmanager
async def opened(folder, clock):
    tier = DiskTier(folder, L3Settings(timeout_s=2.0, budget_bytes=1 << 26, min_free_bytes=0), clock)
    watching = asyncio.create_task(tier.watch())
    try:
        yield tier
    finally:
        watching.cancel()
        await tier.close()


async def until_available(tier, clock) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not tier.is_available:
            await clock.advance(0.1)
            await asyncio.sleep(0.01)


async def test_a_disk_that_others_fill_is_served_from_and_written_again_when_they_leave(tmp_path):
    folder, clock = tmp_path / "disk", FakeClock()
    with small_disk(folder, "size=16m,mode=700"):
        async with opened(folder / "l3", clock) as tier:
            await until_available(tier, clock)
            await tier.put(b"first", an_entry(bytes(100_000), wall=clock.wall()))
            with (folder / "others").open("wb") as others, contextlib.suppress(OSError):
                while others.write(bytes(65536)):
                    pass
            refused_count = 0
            for number in range(60):
                try:
                    await tier.put(b"%d" % number, an_entry(bytes(100_000), wall=clock.wall()))
                except TierUnavailable:
                    refused_count += 1
                await clock.advance(0.3)
            assert refused_count > 0
            assert tier.is_available
            (folder / "others").unlink()
            await clock.advance(0.3)
            await tier.put(b"last", an_entry(bytes(100_000), wall=clock.wall()))
            assert await tier.get(b"last") is not None


async def test_a_folder_on_a_read_only_disk_is_passed_over_until_it_can_be_written(tmp_path):
    folder, clock = tmp_path / "disk", FakeClock()
    with small_disk(folder, "size=16m,mode=700,ro"):
        async with opened(folder / "l3", clock) as tier:
            await clock.advance(3)
            with pytest.raises(TierUnavailable):
                await tier.get(b"key")
            subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
            await until_available(tier, clock)
            await tier.put(b"key", an_entry(wall=clock.wall()))
            assert await tier.get(b"key") is not None
