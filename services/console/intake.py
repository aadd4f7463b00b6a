"""Between the network and the disk: a bounded queue, and one writer that never stops the rest.

`offer` answers at once how many spans it took. The writer stores them in batches in one thread, off the event loop.
What can't be kept (queue full, cap reached, disk full or read-only) is dropped and counted by reason; the service goes
on, and tries the disk again with the next batch, at most once in `retry_s`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from meshkit.clock import Clock
from meshkit.telemetry import logs, names
from services.console.spans import IncomingSpan
from services.console.store import StoreFull

QUEUE_FULL, CAP, DISK, INVALID = "queue_full", "cap", "disk", "invalid"
DROP_REASONS = (QUEUE_FULL, CAP, DISK, INVALID)
_HOUSEKEEPING_S = 60.0
_log = logs.get_logger(__name__)


class SpanStore(Protocol):
    """Where batches go; `store.Store` is the real one. Methods block and are called from one thread."""

    evicted_trace_count: int
    moved_aside_count: int

    def write(self, spans: Sequence[IncomingSpan], *, wall_s: float) -> int: ...

    def keep_caps(self, *, wall_s: float) -> None: ...

    def replace_damaged(self) -> None: ...

    def file_bytes(self) -> int: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may wait, and how it is written."""

    queue_spans: int = 20_000
    queue_bytes: int = 32 * 1024 * 1024
    batch_spans: int = 2_000
    batch_bytes: int = 1024 * 1024
    flush_interval_s: float = 0.2
    retry_s: float = 2.0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the spans since the start."""

    received: int = 0
    stored: int = 0
    """On the disk; a span that came twice counts twice here and is kept once."""
    dropped: Counter[str] = field(default_factory=Counter)
    last_problem: str = ""
    """Why the latest batch was lost; empty once one was stored again."""

    def drop(self, reason: str, count: int) -> None:
        self.dropped[reason] += count


class Intake:
    """The queue and its writer. Belongs to one event loop."""

    def __init__(
        self, store: SpanStore, limits: Limits, clock: Clock, *, on_problem: Callable[[str], None] = lambda _: None
    ) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._on_problem = on_problem
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="span-writer")
        self._queue: list[IncomingSpan] = []
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._retry_at = 0.0
        self._sweep_at = clock.now()
        self.file_bytes = 0
        self.tally = Tally()

    @property
    def queued_spans(self) -> int:
        return len(self._queue)

    @property
    def evicted_trace_count(self) -> int:
        return self._store.evicted_trace_count

    @property
    def moved_aside_count(self) -> int:
        return self._store.moved_aside_count

    def offer(self, span: IncomingSpan) -> bool:
        """Queue one span; False if the queue is full, which is counted."""
        self.tally.received += 1
        size = len(span.body)
        if len(self._queue) >= self._limits.queue_spans or self._queued_bytes + size > self._limits.queue_bytes:
            self.tally.drop(QUEUE_FULL, 1)
            return False
        self._queue.append(span)
        self._queued_bytes += size
        self._arrived.set()
        return True

    def refuse(self, count: int) -> None:
        """Count spans that came and can't be kept, whatever room there is."""
        self.tally.received += count
        self.tally.drop(INVALID, count)

    async def run(self) -> None:
        """Write until cancelled. Batches wait `flush_interval_s`, so that a busy mesh is written in large ones."""
        while True:
            try:
                await self._sweep_if_due()
                await self._wait_for_spans()
                await self.flush()
            except Exception as problem:
                _log.error(names.LOG_CONSOLE_WRITER_FAILED, stack=problem)
                await self._clock.sleep(self._limits.retry_s)

    async def flush(self) -> None:
        """Write all that is queued now."""
        while self._queue:
            batch = self._take_batch()
            await self._write(batch)

    async def repair(self) -> None:
        """A reader met a damaged file: begin a new one."""
        await self._in_thread(self._store.replace_damaged)

    async def close(self) -> None:
        """Write what is queued and close the file. `run` must have ended."""
        await self.flush()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown(wait=True)

    async def _sweep_if_due(self) -> None:
        if self._clock.now() >= self._sweep_at:
            self._sweep_at = self._clock.now() + _HOUSEKEEPING_S
            await self._in_thread(lambda: self._store.keep_caps(wall_s=self._clock.wall()))

    async def _wait_for_spans(self) -> None:
        try:
            async with asyncio.timeout(_HOUSEKEEPING_S):
                await self._arrived.wait()
        except TimeoutError:
            return
        if len(self._queue) < self._limits.batch_spans:
            await self._clock.sleep(self._limits.flush_interval_s)

    def _take_batch(self) -> list[IncomingSpan]:
        count, size = 0, 0
        for span in self._queue[: self._limits.batch_spans]:
            if count and size + len(span.body) > self._limits.batch_bytes:
                break
            count, size = count + 1, size + len(span.body)
        batch, self._queue = self._queue[:count], self._queue[count:]
        self._queued_bytes -= size
        if not self._queue:
            self._arrived.clear()
        return batch

    async def _write(self, batch: list[IncomingSpan]) -> None:
        if self._clock.now() < self._retry_at:
            self.tally.drop(DISK, len(batch))
            return
        wall_s = self._clock.wall()
        # Shielded: a batch that was taken is written and counted even when the writer is being stopped.
        stored = await asyncio.shield(self._in_thread(lambda: self._store.write(batch, wall_s=wall_s), batch))
        if stored is not None:
            self.tally.stored += len(batch)
            await asyncio.shield(self._in_thread(lambda: self._store.keep_caps(wall_s=wall_s)))

    async def _in_thread(self, work: Callable[[], int | None], batch: Sequence[IncomingSpan] = ()) -> int | None:
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._thread, work)
            self.tally.last_problem = ""
        except StoreFull as problem:
            self._lost(CAP, batch, str(problem))
            return None
        except (sqlite3.Error, OSError) as problem:
            self._retry_at = self._clock.now() + self._limits.retry_s
            self._lost(DISK, batch, str(problem))
            return None
        except Exception as problem:
            self._lost(INVALID, batch, f"{type(problem).__name__}: {problem}")
            raise
        self.file_bytes = self._store.file_bytes()
        return result

    def _lost(self, reason: str, batch: Sequence[IncomingSpan], problem: str) -> None:
        self.tally.drop(reason, len(batch))
        if problem != self.tally.last_problem:
            self._on_problem(problem)
        self.tally.last_problem = problem
