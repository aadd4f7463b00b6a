"""The file: what is written is read back, caps hold, damage costs the file and nothing else."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.console import schema
from services.console.caps import SMALLEST_CAP_BYTES, Caps
from services.console.query import TraceQuery
from services.console.reader import Damaged, Reader, TooSlow, Unavailable
from services.console.store import Store, StoreFull
from tests.support.otlp_spans import MadeSpan, generate_trace, trace_id
from tests.unit.console.conftest import incoming

EVER = TraceQuery(start_us=0)


def ids(reader: Reader, query: TraceQuery = EVER) -> list[int]:
    return [int.from_bytes(summary.trace_id, "big") for summary in reader.summaries(query)]


def fill(store: Store, traces: range, *, wall_s: float = 0, body_bytes: int = 400) -> int:
    made = [MadeSpan(trace=n, span=s, parent=s - 1, start_ms=n, tags={"text": "x" * body_bytes})
            for n in traces for s in range(1, 9)]  # fmt: skip
    return write(store, *made, wall_s=wall_s)


def write(store: Store, *made: MadeSpan, wall_s: float = 0) -> int:
    stored = store.write(incoming(*made), wall_s=wall_s)
    store.keep_caps(wall_s=wall_s)
    return stored


def test_a_summary_names_root_counts_and_services(store: Store, reader: Reader) -> None:
    store.write(incoming(*generate_trace(7)), wall_s=0)
    (summary,) = reader.summaries(EVER)
    assert (summary.root_service, summary.root_operation, summary.span_count) == ("router", "Generate", 6)
    assert (summary.duration_us, summary.error_count) == (100_000, 0)
    assert summary.services == (("inference", 2), ("router", 2), ("cache", 1), ("compressor", 1))


def test_spans_of_one_trace_may_come_in_any_order_and_in_parts(store: Store, reader: Reader) -> None:
    for made in reversed(list(generate_trace(1))):
        store.write(incoming(made), wall_s=0)
    (summary,) = reader.summaries(EVER)
    assert (summary.span_count, summary.root_operation, summary.duration_us) == (6, "Generate", 100_000)


def test_a_trace_without_its_root_is_listed_under_its_earliest_service(store: Store, reader: Reader) -> None:
    store.write(incoming(*list(generate_trace(1))[1:]), wall_s=0)
    (summary,) = reader.summaries(EVER)
    assert (summary.root_service, summary.root_operation) == ("router", "")


def test_a_span_sent_twice_is_kept_and_counted_once(store: Store, reader: Reader) -> None:
    spans = list(generate_trace(1))
    assert store.write(incoming(*spans, spans[0]), wall_s=0) == 6
    assert store.write(incoming(*spans), wall_s=0) == 0
    assert reader.summaries(EVER)[0].span_count == 6


def test_span_ids_with_the_highest_bit_survive(store: Store, reader: Reader) -> None:
    store.write(incoming(MadeSpan(span=2**64 - 1), MadeSpan(span=5, parent=2**64 - 1)), wall_s=0)
    trace = reader.trace(trace_id(1))
    assert trace is not None
    assert {span.parent_id for span in trace.spans} == {0, -1}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"service": "cache"}, [3, 1]),
        ({"service": "cache", "operation": "Lookup"}, [3, 1]),
        ({"service": "cache", "operation": "Compress"}, []),
        ({"operation": "Only"}, [2]),
        ({"min_duration_us": 200_000}, [2]),
        ({"service": "router", "max_duration_us": 4_000}, [3, 1]),
        ({"tags": (("mesh.tenant", "search"),)}, [2]),
        ({"tags": (("mesh.tenant", "search"), ("attempt", "2"))}, [2]),
        ({"tags": (("mesh.tenant", "search"), ("attempt", "3"))}, []),
        ({"tags": (("error", "true"),)}, [2]),
        ({"tags": (("otel.status_code", "ERROR"),)}, [2]),
        ({"tags": (("span.kind", "client"),)}, [3, 1]),
        ({"tags": (("event", "first_token"),)}, [3, 1]),
        ({"tags": (("reason", "why not"),)}, [2]),
        ({"tags": (("service.instance.id", "i-1"),), "limit": 1}, [3]),
        ({"errors_only": True}, [2]),
        ({"limit": 2}, [3, 2]),
        ({"start_us": 1_700_000_000_500_000}, [3, 2]),
        ({"end_us": 1_700_000_000_500_000}, [1]),
    ],
)
def test_a_search_finds_traces_with_a_span_that_meets_everything(
    store: Store, reader: Reader, change: dict[str, object], found: list[int]
) -> None:
    tags, events = {"mesh.tenant": "search", "attempt": 2}, (("retry", 1001, {"reason": "why not"}),)
    odd = MadeSpan(trace=2, start_ms=1000, duration_ms=300, operation="Only", error="no", service="odd",
                   tags=tags, events=events)  # fmt: skip
    store.write(incoming(*generate_trace(1), odd, *generate_trace(3, start_ms=2000)), wall_s=0)
    assert ids(reader, replace(EVER, **change)) == found  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("text", "text"), ("", ""), (2, "2"), (-3, "-3"), (True, "true"), (1.5, "1.5"), (1e300, "1e+300"),
     (b"\xab\xcd", "abcd"), ([1, "b"], '[1, "b"]'), ({"a": "ü"}, '{"a": "ü"}'),
     (float("inf"), "inf"), (float("nan"), "nan")],
)  # fmt: skip
def test_a_tag_of_any_type_is_found_by_what_is_shown_for_it(
    store: Store, reader: Reader, value: object, wanted: str
) -> None:
    store.write(incoming(MadeSpan(tags={"key": value}), MadeSpan(trace=2, tags={"key": "other"})), wall_s=0)
    assert ids(reader, replace(EVER, tags=(("key", wanted),))) == [1]


def test_services_operations_and_calls_are_those_of_stored_spans(store: Store, reader: Reader) -> None:
    store.write(incoming(*generate_trace(1)), wall_s=0)
    assert reader.services() == ["cache", "compressor", "inference", "router"]
    assert reader.operations("inference") == [("Generate", "server"), ("decode", "internal")]
    assert reader.calls(0, 2**62) == [("router", "cache", 1), ("router", "compressor", 1), ("router", "inference", 1)]


def test_old_traces_go_by_time_of_arrival_and_take_their_names_along(path: Path, reader: Reader) -> None:
    store = Store(path, Caps(max_age_s=100))
    store.write(incoming(MadeSpan(trace=1, service="gone")), wall_s=1000)
    store.write(incoming(MadeSpan(trace=2)), wall_s=1090)
    store.keep_caps(wall_s=1101)
    assert (ids(reader), reader.services(), store.evicted_trace_count) == ([2], ["router"], 1)
    store.close()


def test_the_file_stays_below_its_cap_and_the_oldest_traces_go_first(path: Path, reader: Reader) -> None:
    caps = Caps(max_bytes=SMALLEST_CAP_BYTES)
    store = Store(path, caps)
    largest, stored = 0, 0
    for start in range(1, 1501, 50):
        stored += fill(store, range(start, start + 50))
        largest = max(largest, store.file_bytes())
    kept = ids(reader, replace(EVER, limit=10_000))
    assert stored == 1500 * 8
    assert caps.max_bytes // 2 < largest <= caps.max_bytes
    assert kept == list(range(1500, 1500 - len(kept), -1))
    assert 100 < len(kept) < 1500
    store.close()


def test_one_endless_trace_is_evicted_rather_than_let_over_the_cap(path: Path) -> None:
    store = Store(path, Caps(max_bytes=SMALLEST_CAP_BYTES))
    for turn in range(16):
        made = [MadeSpan(span=turn * 500 + n, tags={"text": "x" * 600}) for n in range(1, 501)]
        write(store, *made)
        assert store.file_bytes() <= SMALLEST_CAP_BYTES
    assert store.evicted_trace_count >= 1
    store.close()


def test_a_lowered_cap_shrinks_the_file(path: Path) -> None:
    large = Store(path, Caps(max_bytes=16 * 1024 * 1024))
    for start in range(1, 1501, 100):
        fill(large, range(start, start + 100))
    large.close()
    assert schema.file_bytes(path) > SMALLEST_CAP_BYTES
    small = Store(path, Caps(max_bytes=SMALLEST_CAP_BYTES))
    small.keep_caps(wall_s=0)
    small.close()
    assert schema.file_bytes(path) <= SMALLEST_CAP_BYTES


def test_a_reader_that_holds_the_log_costs_spans_and_never_the_cap(path: Path) -> None:
    store = Store(path, Caps(max_bytes=SMALLEST_CAP_BYTES))
    fill(store, range(1, 10))
    reading = schema.open_for_reading(path)
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM spans").fetchone()
    with pytest.raises(StoreFull):
        for start in range(10, 2000, 50):
            fill(store, range(start, start + 50))
    assert store.file_bytes() <= SMALLEST_CAP_BYTES
    reading.close()
    assert fill(store, range(5000, 5010)) == 80
    store.close()


def test_a_file_of_garbage_is_moved_aside_and_a_new_one_begun(path: Path, reader: Reader) -> None:
    path.write_bytes(b"this is not a database" * 500)
    store = Store(path, Caps())
    assert fill(store, range(1, 3)) == 16
    assert (ids(reader), store.moved_aside_count) == ([2, 1], 1)
    assert len(list(path.parent.glob("traces.db.unusable-*"))) == 1
    store.close()


def test_damage_in_the_middle_is_noticed_on_opening(path: Path) -> None:
    store = Store(path, Caps())
    fill(store, range(1, 200))
    store.close()
    damage(path)
    again = Store(path, Caps())
    assert fill(again, range(1, 3)) == 16
    assert again.moved_aside_count == 1
    again.close()


def test_damage_while_open_costs_the_file_and_not_the_batch(path: Path, reader: Reader) -> None:
    store = Store(path, Caps())
    fill(store, range(1, 400))
    store.close()
    again = Store(path, Caps())
    fill(again, range(400, 401))
    damage(path)
    with pytest.raises(Damaged):
        ids(reader, replace(EVER, service="router", operation="none"))
    again.replace_damaged()
    assert fill(again, range(500, 502)) == 16
    assert ids(reader) == [501, 500]
    again.close()


def test_only_the_latest_unusable_file_is_kept(path: Path) -> None:
    for _ in range(3):
        path.write_bytes(b"garbage" * 1000)
        schema.move_aside(path)
    assert len(list(path.parent.iterdir())) == 1


def test_a_file_of_another_version_is_moved_aside(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = Store(path, Caps())
    assert fill(store, range(1, 2)) == 8
    assert store.moved_aside_count == 1
    store.close()


def test_reading_before_anything_was_written_says_so(reader: Reader) -> None:
    with pytest.raises(Unavailable):
        reader.services()


def test_a_search_past_its_deadline_is_given_up(store: Store, path: Path) -> None:
    fill(store, range(1, 400))

    class LateClock:
        def __init__(self) -> None:
            self.ticks = 0

        def now(self) -> float:
            self.ticks += 1
            return self.ticks * 10.0

        def wall(self) -> float:
            return 0.0

        async def sleep(self, seconds: float) -> None: ...

    from services.console import otlp

    slow = Reader(path, otlp.BODY_READER, LateClock(), longest_read_s=5)
    with pytest.raises(TooSlow):
        slow.summaries(replace(EVER, tags=(("text", "nowhere"),)))


_WRITE_FOR_EVER = """
import sys
from pathlib import Path
from services.console.caps import Caps
from services.console.store import Store
from tests.support.otlp_spans import generate_trace
from tests.unit.console.conftest import incoming
store = Store(Path(sys.argv[1]), Caps())
for number in range(1, 100_000):
    store.write(incoming(*generate_trace(number)), wall_s=0)
    print(number, flush=True)
"""


def test_what_was_stored_survives_a_kill_in_the_middle_of_writing(path: Path, reader: Reader) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITE_FOR_EVER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert writer.stdout is not None
    for _ in range(50):
        assert writer.stdout.readline()
    writer.kill()
    rest = writer.stdout.read().split()
    writer.wait()
    confirmed = max((int(number) for number in rest if number.isdecimal()), default=50)
    store = Store(path, Caps())
    fill(store, range(200_000, 200_001))
    found = ids(reader, replace(EVER, limit=200_000))
    assert set(range(1, confirmed)) <= set(found)
    assert all(summary.span_count in (6, 8) for summary in reader.summaries(replace(EVER, limit=200_000)))
    assert store.moved_aside_count == 0
    store.close()


def damage(path: Path) -> None:
    """Overwrite the pages after the first, which hold the tables."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xa5" * (size - 4096 * 3))
