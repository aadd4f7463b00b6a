"""A file of spans in a temporary folder, with its writing and its reading side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshkit.clock import SystemClock
from services.console import otlp
from services.console.caps import Caps
from services.console.reader import Reader
from services.console.spans import IncomingSpan, SpanRecord, Trace
from services.console.store import Store
from tests.support.otlp_spans import MadeSpan, export, trace_id

Write = Callable[..., int]


def incoming(*made: MadeSpan) -> list[IncomingSpan]:
    return [span for span in otlp.spans(export(*made)) if isinstance(span, IncomingSpan)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path, Caps())
    yield store
    store.close()


@pytest.fixture
def reader(path: Path) -> Reader:
    return Reader(path, otlp.BODY_READER, SystemClock(), longest_read_s=5)


@pytest.fixture
def read_back(store: Store, reader: Reader) -> Callable[..., Trace]:
    """Write spans of one trace and read that trace."""

    def write_and_read(*made: MadeSpan) -> Trace:
        store.write(incoming(*made), wall_s=0)
        trace = reader.trace(trace_id(made[0].trace))
        assert trace is not None
        return trace

    return write_and_read


@pytest.fixture
def read_span(read_back: Callable[..., Trace]) -> Callable[[MadeSpan], SpanRecord]:
    return lambda made: read_back(made).spans[0]
