"""The third tier: a local disk. Look-ups end after a hard time-out, whatever the disk does; nothing holds the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from meshkit.clock import Clock
from services.cache.disk.file import EntryFile
from services.cache.disk.life import FileLife
from services.cache.disk.reading import Row, find, next_rows, used_bytes
from services.cache.disk.writing import Writing
from services.cache.entry import Entry, Unreadable, encode
from services.cache.settings import L3Settings
from services.cache.tier import Swept, TierSize, TierUnavailable

_ROWS_A_TURN = 16
_MOST_NOTES = 10_000


class DiskTier:
    """Entries in a folder. `watch` must run for it to be asked at all: it starts as unavailable."""

    def __init__(self, folder: Path, settings: L3Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._life = FileLife(folder, settings, clock)
        self._visited: set[int] = set()
        """Rows that were asked for since that was last written."""
        self._forgotten: set[bytes] = set()
        """Keys that are gone, though the file still has them: no request waits for that."""

    @property
    def is_available(self) -> bool:
        """Whether look-ups are sent at all."""
        return self._life.is_available

    async def watch(self) -> None:
        """Open the file, again whenever that became necessary, and keep it tidy. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._life.watch())
            tasks.create_task(self._keep_tidy())

    async def close(self) -> None:
        with contextlib.suppress(TierUnavailable):
            await self._write(_nothing)
        await self._life.close()

    async def get(self, key: bytes) -> Entry | None:
        row = await self._life.read(lambda file: find(file.reader, key), self._settings.timeout_s)
        if row is None or key in self._forgotten:
            return None
        if row.entry is None:
            with contextlib.suppress(TierUnavailable):
                await self.delete(key)
            raise Unreadable("the stored bytes are not this key's entry")
        if len(self._visited) < _MOST_NOTES:
            self._visited.add(row.id)
        return row.entry

    async def put(self, key: bytes, entry: Entry) -> None:
        if entry.expires_at <= self._clock.wall():
            return
        await self._write(lambda writing: writing.put(key, encode(key, entry), entry.expires_at))

    async def delete(self, key: bytes) -> None:
        """Gone at once for this process; from the file within a few seconds."""
        if not self._life.is_available or len(self._forgotten) >= _MOST_NOTES:
            raise TierUnavailable("the file is not open, or takes no writes")
        self._forgotten.add(key)

    async def size(self) -> TierSize:
        return await self._life.read(
            lambda file: TierSize(
                entry_count=file.writing.entry_count,
                size_bytes=used_bytes(file.reader),
                budget_bytes=self._settings.budget_bytes,
                eviction_count=file.writing.eviction_count,
            ),
            self._settings.write_timeout_s,
        )

    async def sweep(self, prefix: bytes, matches: Callable[[bytes, Entry], bool], *, apply: bool) -> Swept:
        await self._write(_nothing)
        entry_count = size_bytes = 0
        last: bytes | None = None
        while rows := await self._next_rows(prefix, last):
            last = rows[-1].key
            sizes = {row.id: row.entry.size_bytes for row in rows if row.entry and matches(row.key, row.entry)}
            entry_count += len(sizes)
            size_bytes += sum(sizes.values())
            gone = [row.id for row in rows if row.entry is None or row.id in sizes]
            if apply and gone:
                await self._life.write(partial(Writing.forget_ids, ids=gone))
        return Swept(entry_count=entry_count, size_bytes=size_bytes)

    async def _next_rows(self, prefix: bytes, last: bytes | None) -> list[Row]:
        def ask(file: EntryFile) -> list[Row]:
            return next_rows(file.reader, prefix, last, _ROWS_A_TURN)

        return await self._life.read(ask, self._settings.write_timeout_s)

    async def _keep_tidy(self) -> None:
        while True:
            await self._clock.sleep(self._settings.tidy_every_s)
            with contextlib.suppress(TierUnavailable):
                await self._write(_nothing)
                while await self._life.write(partial(Writing.tidy, wall=self._clock.wall())):
                    pass

    async def _write(self, change: Callable[[Writing], None]) -> None:
        """Write what was only noted so far, then the change."""
        visited, self._visited = list(self._visited), set()
        forgotten = set(self._forgotten)

        def write(writing: Writing) -> None:
            writing.mark(visited)
            for key in forgotten:
                writing.forget(key)
            change(writing)

        await self._life.write(write)
        self._forgotten -= forgotten


def _nothing(writing: Writing) -> None:
    """Only what was noted."""
