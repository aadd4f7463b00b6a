"""Rules of the numbered changes of the prefix cache: resume or snapshot, never a gap."""

import random

import pytest

from services.inference.kv_events import KvEvent, KvEventLog

FIRST = 1_000_000  # the number of a log that began one second after the epoch, before its first event


def log(**bounds: int) -> KvEventLog:
    return KvEventLog(wall_s=1.0, **bounds)


def test_follower_without_a_number_gets_everything_that_is_stored() -> None:
    events = log()
    assert events.after(None) == [KvEvent(number=FIRST, kind="snapshot", block_hashes=())]
    events.note(stored=[1, 2], evicted=[])
    events.note(stored=[3], evicted=[1])
    assert events.after(None) == [KvEvent(number=FIRST + 3, kind="snapshot", block_hashes=(2, 3))]


def test_follower_resumes_behind_its_number() -> None:
    events = log()
    events.note(stored=[1], evicted=[])
    events.note(stored=[2], evicted=[1])
    assert events.after(FIRST + 1) == [
        KvEvent(number=FIRST + 2, kind="evicted", block_hashes=(1,)),
        KvEvent(number=FIRST + 3, kind="stored", block_hashes=(2,)),
    ]
    assert events.after(FIRST + 3) == []


@pytest.mark.parametrize("number", [-1, 0, FIRST - 1, FIRST, FIRST + 6])
def test_number_that_is_not_kept_or_was_never_given_gets_a_snapshot(number: int) -> None:
    events = log(most_events=2)
    for block_hash in range(5):
        events.note(stored=[block_hash], evicted=[])
    assert [event.kind for event in events.after(number)] == ["snapshot"]


def test_number_of_an_earlier_life_gets_a_snapshot() -> None:
    earlier, later = log(), KvEventLog(wall_s=1.5)
    for block_hash in range(100):
        earlier.note(stored=[block_hash], evicted=[])
    later.note(stored=[1], evicted=[])
    assert [event.kind for event in later.after(earlier.after(None)[0].number)] == ["snapshot"]


def test_no_more_hashes_are_kept_than_allowed() -> None:
    events = log(most_hashes=10)
    events.note(stored=range(8), evicted=[])
    events.note(stored=range(8, 12), evicted=[])
    assert [event.kind for event in events.after(FIRST)] == ["snapshot"]
    assert [event.kind for event in events.after(FIRST + 1)] == ["stored"]
    events.note(stored=range(100, 200), evicted=[])
    assert [event.kind for event in events.after(FIRST + 2)] == ["snapshot"]


def test_end_of_the_engine_evicts_everything() -> None:
    events = log()
    events.note(stored=[1, 2], evicted=[])
    events.clear()
    assert events.after(FIRST + 1) == [KvEvent(number=FIRST + 2, kind="evicted", block_hashes=(1, 2))]
    events.clear()
    assert events.after(FIRST + 2) == []


def test_followers_who_look_rarely_end_with_what_is_stored() -> None:
    dice, events = random.Random(4), log(most_events=7)
    stored: set[int] = set()
    mirror: set[int] = set()
    number: int | None = None
    for _ in range(2_000):
        fresh = {dice.randrange(40) for _ in range(3)} - stored
        gone = {block_hash for block_hash in stored if dice.random() < 0.2}
        stored = (stored | fresh) - gone
        events.note(stored=sorted(fresh), evicted=sorted(gone))
        if dice.random() < 0.3:
            for event in events.after(number):
                assert event.kind == "snapshot" or number is None or event.number == number + 1
                mirror = _applied(mirror, event)
                number = event.number
            assert mirror == stored


def _applied(mirror: set[int], event: KvEvent) -> set[int]:
    if event.kind == "snapshot":
        return set(event.block_hashes)
    changed = set(event.block_hashes)
    return mirror | changed if event.kind == "stored" else mirror - changed
