"""Rules of the engine's garbage collection."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from services.inference.engine import collection


class Knot:
    """Holds itself, so that only the collector can end it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_by_itself_during_the_pause() -> None:
    collection.pause()
    knot = weakref.ref(Knot())
    for _ in range(100_000):
        Knot()
    assert knot() is not None


def test_after_the_pause_what_is_new_is_collected_and_what_was_there_is_not_looked_at() -> None:
    collection.pause()
    old = weakref.ref(Knot())
    collection.resume()
    new = weakref.ref(Knot())
    gc.collect()
    assert gc.isenabled() and new() is None and old() is not None
