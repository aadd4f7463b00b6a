"""When the file of entries is open, asked, rested and replaced. It decides nothing about entries.

Reading and writing fail apart: a full or read-only disk takes no more writes, and what is there is still served. A file
that turns out to be damaged is replaced by the probe, off the path of requests; so is a folder that could not be opened
looked at again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from meshkit.clock import Clock
from meshkit.telemetry import names
from meshkit.telemetry.logs import get_logger
from services.cache.breaker import Breaker, keep_probing
from services.cache.disk.failures import Damaged, DiskProblem
from services.cache.disk.file import EntryFile, Limits, open_file
from services.cache.disk.threads import OneThread
from services.cache.disk.writing import Writing
from services.cache.settings import L3Settings
from services.cache.tier import TierUnavailable

_OPENING_TIMEOUT_S = 30.0
_log = get_logger(__name__)

T = TypeVar("T")


class FileLife:
    """One folder's file. `watch` must run for it to be asked at all: it starts as unavailable."""

    def __init__(self, folder: Path, settings: L3Settings, clock: Clock) -> None:
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._breaker = Breaker(failure_limit=settings.failure_limit)
        self._reads, self._writes = OneThread("l3-reads"), OneThread("l3-writes")
        self._file: EntryFile | None = None
        self._is_damaged = False
        self._problem = ""
        self._writes_rest_until = 0.0

    @property
    def is_available(self) -> bool:
        """Whether it is asked at all."""
        return not self._breaker.is_open

    async def watch(self) -> None:
        """Open the file, again whenever that became necessary. Runs until cancelled."""
        await keep_probing(self._breaker, self._opens, clock=self._clock, settings=self._settings)

    async def close(self) -> None:
        """Let go of the file, within a bound."""
        self._breaker.trip()
        with contextlib.suppress(DiskProblem, TimeoutError):
            await self._close_file()
        self._reads.close()
        self._writes.close()

    async def read(self, ask: Callable[[EntryFile], T], timeout_s: float) -> T:
        """Ask on the thread that reads. Raises TierUnavailable."""
        file = self._opened()
        if self._reads.waiting_count >= self._settings.max_lookups:
            raise TierUnavailable("too many look-ups wait for the disk")
        try:
            answer = await self._reads.run(partial(ask, file), timeout_s)
        except TimeoutError as error:
            self._breaker.failed()
            raise TierUnavailable("no answer in time") from error
        except DiskProblem as problem:
            self._breaker.failed()
            self._note(problem)
            raise TierUnavailable(str(problem)) from problem
        self._breaker.succeeded()
        return answer

    async def write(self, change: Callable[[Writing], T]) -> T:
        """Change the file on the thread that writes. Raises TierUnavailable; after a failure the disk gets a rest."""
        file = self._opened()
        if self._clock.now() < self._writes_rest_until:
            raise TierUnavailable("the disk takes no writes")
        try:
            done = await self._writes.run(partial(change, file.writing), self._settings.write_timeout_s)
        except (DiskProblem, TimeoutError) as problem:
            self._writes_rest_until = self._clock.now() + self._settings.first_rest_s
            self._note(problem)
            raise TierUnavailable(f"the disk did not take the write: {problem}") from problem
        self._note(None)
        return done

    def _opened(self) -> EntryFile:
        if self._breaker.is_open or self._file is None:
            raise TierUnavailable("the file is not open")
        return self._file

    async def _opens(self) -> bool:
        """The probe."""
        try:
            if self._is_damaged:
                await self._close_file()
            if self._file is None:
                self._file = await self._open_file()
            await self._reads.run(lambda: None, self._settings.write_timeout_s)
        except (DiskProblem, TimeoutError) as problem:
            self._note(problem)
            return False
        self._note(None)
        return True

    async def _open_file(self) -> EntryFile:
        limits = Limits(budget_bytes=self._settings.budget_bytes, min_free_bytes=self._settings.min_free_bytes)
        opening = partial(open_file, self._folder, limits, is_damaged=self._is_damaged)
        opened = await self._writes.run(opening, _OPENING_TIMEOUT_S)
        self._is_damaged = False
        return opened

    async def _close_file(self) -> None:
        """Once nobody reads any more."""
        file, self._file = self._file, None
        if file is not None:
            await self._reads.run(lambda: None, self._settings.write_timeout_s)
            await self._writes.run(file.close, self._settings.write_timeout_s)

    def _note(self, problem: Exception | None) -> None:
        """Log a problem once, and its end."""
        if isinstance(problem, Damaged) and not self._is_damaged:
            self._is_damaged = True
            self._breaker.trip()
        reason = "" if problem is None else str(problem) or "no answer in time"
        if reason != self._problem:
            self._problem = reason
            (_log.warning if reason else _log.info)(names.LOG_CACHE_DISK, problem=reason or "none")
