"""Rules of services.inference.liveness and .backoff."""

from services.inference.backoff import LONG_LIFE_S, Backoff
from services.inference.liveness import Liveness


def liveness() -> Liveness:
    fresh = Liveness(silence_s=3.0, longest_step_s=60.0, now=0.0)
    assert fresh.problem(0.0, {0: 1.0, 1: 1.0}) == ""
    return fresh


def test_speaking_engine_is_well_however_little_it_computes() -> None:
    watched = liveness()
    for second in range(1, 100):
        watched.heard(second)
        assert watched.problem(second + 0.5, {0: 1.0, 1: 1.0}) == ""


def test_long_step_that_keeps_all_ranks_busy_is_well() -> None:
    watched = liveness()
    for second in range(1, 59):
        assert watched.problem(second, {0: 1.0 + second, 1: 1.0 + second}) == ""


def test_silence_with_an_idle_rank_is_a_hung_rank() -> None:
    watched = liveness()
    assert watched.problem(2.9, {0: 3.9, 1: 1.0}) == ""
    assert "rank 1" in watched.problem(3.1, {0: 4.1, 1: 1.0})


def test_silence_beyond_any_step_is_a_hung_engine() -> None:
    watched = liveness()
    watched.problem(59.0, {0: 60.0, 1: 60.0})
    assert "60.5 s" in watched.problem(60.5, {0: 61.0, 1: 61.0})


def test_rank_that_stays_stopped_has_hung_however_well_the_engine_speaks() -> None:
    watched = liveness()
    for second in range(10):
        watched.heard(second)
    assert watched.halt(10.0, {1}) == watched.halt(12.9, {1}) == ""
    assert "rank 1" in watched.halt(13.1, {1})


def test_rank_that_goes_on_in_time_starts_afresh() -> None:
    watched = liveness()
    assert (
        watched.halt(10.0, {1}) == watched.halt(12.0, set()) == watched.halt(13.5, {1}) == watched.halt(16.0, {1}) == ""
    )
    assert "rank 1" in watched.halt(16.6, {1})


def test_nobody_is_blamed_for_a_time_in_which_the_listener_did_not_run() -> None:
    watched = liveness()
    assert watched.halt(1.0, {0}) == ""
    watched.excuse(100.0)
    assert watched.problem(102.0, {0: 1.0, 1: 1.0}) == watched.halt(103.9, {0}) == ""
    assert "rank 0" in watched.problem(103.1, {0: 1.0, 1: 1.0})
    assert "rank 0" in watched.halt(104.1, {0})


def test_backoff_doubles_up_to_its_bound_and_forgets_after_a_long_life() -> None:
    backoff = Backoff(first_s=0.5, longest_s=3.0)
    assert [backoff.after(0.0) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.after(LONG_LIFE_S) == 0.5
