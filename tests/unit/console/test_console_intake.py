"""The queue and its writer: bounded, and alive whatever the disk does."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sqlite3
from collections.abc import AsyncIterator, Sequence

from meshkit.clock import SystemClock
from meshkit.testing import FakeClock
from services.console.intake import CAP, DISK, INVALID, QUEUE_FULL, Intake, Limits
from services.console.spans import IncomingSpan
from services.console.store import StoreFull
from tests.support.otlp_spans import MadeSpan
from tests.unit.console.conftest import incoming

SPANS = incoming(*(MadeSpan(span=n) for n in range(1, 101)))


class FakeStore:
    """Keeps spans in memory, or raises what it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[IncomingSpan]] = []
        self.problem: Exception | None = None
        self.evicted_trace_count = 0
        self.moved_aside_count = 0
        self.is_closed = False

    def write(self, spans: Sequence[IncomingSpan], *, wall_s: float) -> int:
        if self.problem:
            raise self.problem
        self.batches.append(list(spans))
        return len(spans)

    def keep_caps(self, *, wall_s: float) -> None: ...

    def replace_damaged(self) -> None: ...

    def file_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self.is_closed = True


@contextlib.asynccontextmanager
async def running(intake: Intake) -> AsyncIterator[None]:
    task = asyncio.create_task(intake.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await intake.close()


async def until_empty(intake: Intake) -> None:
    async with asyncio.timeout(5):
        while True:
            if intake.tally.stored + intake.tally.dropped.total() == intake.tally.received:
                return
            await asyncio.sleep(0.001)


async def test_offered_spans_are_written_in_bounded_batches() -> None:
    store = FakeStore()
    intake = Intake(store, Limits(batch_spans=30, flush_interval_s=0), SystemClock())
    for span in SPANS:
        assert intake.offer(span)
    async with running(intake):
        await until_empty(intake)
    assert [len(batch) for batch in store.batches] == [30, 30, 30, 10]
    assert [span.span_id for batch in store.batches for span in batch] == list(range(1, 101))


async def test_a_batch_is_bounded_by_bytes_too_but_holds_at_least_one_span() -> None:
    store = FakeStore()
    intake = Intake(store, Limits(batch_bytes=1, flush_interval_s=0), SystemClock())
    large = incoming(*(MadeSpan(span=n, tags={"text": "x" * 100}) for n in range(1, 4)))
    for span in large:
        intake.offer(span)
    async with running(intake):
        await until_empty(intake)
    assert [len(batch) for batch in store.batches] == [1, 1, 1]


async def test_a_full_queue_refuses_and_counts() -> None:
    intake = Intake(FakeStore(), Limits(queue_spans=10), FakeClock())
    assert [intake.offer(span) for span in SPANS[:12]] == [True] * 10 + [False] * 2
    assert intake.tally.dropped == {QUEUE_FULL: 2}
    await intake.close()


async def test_a_queue_full_of_bytes_refuses_and_counts() -> None:
    large = incoming(*(MadeSpan(span=n, tags={"text": "x" * 1000}) for n in range(1, 11)))
    intake = Intake(FakeStore(), Limits(queue_bytes=5000), FakeClock())
    taken = [intake.offer(span) for span in large]
    assert taken == [True] * taken.count(True) + [False] * intake.tally.dropped[QUEUE_FULL]
    assert 3 <= taken.count(True) <= 4
    await intake.close()


async def test_a_failing_disk_costs_spans_and_is_tried_again_only_after_a_rest() -> None:
    store, clock, problems = FakeStore(), FakeClock(), list[str]()
    intake = Intake(store, Limits(retry_s=2), clock, on_problem=problems.append)
    store.problem = OSError(errno.EROFS, "Read-only file system")
    for span in SPANS[:3]:
        intake.offer(span)
        await intake.flush()
    assert (intake.tally.dropped, len(problems)) == ({DISK: 3}, 1)
    store.problem = None
    intake.offer(SPANS[3])
    await intake.flush()
    assert intake.tally.dropped == {DISK: 4}
    await clock.advance(2.1)
    intake.offer(SPANS[4])
    await intake.flush()
    assert (intake.tally.stored, intake.tally.last_problem) == (1, "")
    await intake.close()


async def test_a_full_store_is_told_apart_from_a_failing_disk() -> None:
    store = FakeStore()
    intake = Intake(store, Limits(), FakeClock())
    store.problem = StoreFull("no room")
    intake.offer(SPANS[0])
    await intake.flush()
    store.problem = sqlite3.OperationalError("disk I/O error")
    intake.offer(SPANS[1])
    await intake.flush()
    assert intake.tally.dropped == {CAP: 1, DISK: 1}
    await intake.close()


async def test_closing_writes_what_is_queued() -> None:
    store = FakeStore()
    intake = Intake(store, Limits(flush_interval_s=60), SystemClock())
    async with running(intake):
        intake.offer(SPANS[0])
        await asyncio.sleep(0)
    assert (intake.tally.stored, store.is_closed) == (1, True)


async def test_a_failure_that_nobody_foresaw_costs_its_batch_and_not_the_writer(caplog) -> None:
    store = FakeStore()
    store.problem = RuntimeError("a bug")
    intake = Intake(store, Limits(flush_interval_s=0, retry_s=0), SystemClock())
    async with running(intake):
        intake.offer(SPANS[0])
        await until_empty(intake)
        store.problem = None
        intake.offer(SPANS[1])
        await until_empty(intake)
    assert (intake.tally.stored, intake.tally.dropped) == (1, {INVALID: 1})
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert record.message == "console.writer_failed"


async def test_a_failing_clean_up_does_not_end_the_writer() -> None:
    class Unclean(FakeStore):
        def keep_caps(self, *, wall_s: float) -> None:
            raise RuntimeError("a bug")

    store = Unclean()
    intake = Intake(store, Limits(flush_interval_s=0, retry_s=0), SystemClock())
    async with running(intake):
        for span in SPANS[:2]:
            intake.offer(span)
            await until_empty(intake)
    assert intake.tally.stored == 2
