"""The score is bounded, rises with what was kept, and says when it knows nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.compressor.quality.calibrated import Calibrated
from services.compressor.quality.evidence import Evidence, Signal, from_json, packaged_evidence
from services.compressor.quality.forecast import UNMEASURED
from services.compressor.selection.port import Task
from services.compressor.selection.selection import Selection

KEPT = Signal(name="kept_share", middle=0.4, spread=0.1, least=0.2, most=0.6)
SIZE = Signal(name="size", middle=3.0, spread=1.0, least=2.0, most=4.0)
EVIDENCE = Evidence(
    provenance="made up",
    signals=(KEPT,),
    seen=(SIZE,),
    weights=(1.5, 0.5),
    covariance=((0.01, 0.0), (0.0, 0.01)),
)


def predicted(kept_share: float, size: float = 3.0):
    return Calibrated(EVIDENCE).predict({"kept_share": kept_share, "size": size, "other": 1.0})


def test_the_score_is_the_logistic_of_the_weighted_signals():
    assert predicted(0.5).score == pytest.approx(1 / (1 + math.exp(-(1.5 + 0.5))))


def test_the_interval_is_that_of_the_weights():
    half = 1.96 * math.sqrt(0.01 + 0.01)
    found = predicted(0.5)
    assert found.low == pytest.approx(1 / (1 + math.exp(-(2.0 - half))))
    assert found.high == pytest.approx(1 / (1 + math.exp(-(2.0 + half))))


@pytest.mark.parametrize("features", [{}, {"kept_share": 0.5}, {"kept_share": math.nan, "size": 3.0}])
def test_without_a_feature_nothing_is_known(features):
    assert Calibrated(EVIDENCE).predict(features) is UNMEASURED


def test_a_signal_better_than_any_seen_counts_as_the_best_seen():
    assert predicted(0.95) == predicted(0.6)


@pytest.mark.parametrize(("kept_share", "size"), [(0.1, 3.0), (0.2, 5.0), (0.2, 1.0)])
def test_outside_what_was_seen_the_score_falls_and_the_interval_opens(kept_share, size):
    inside, outside = predicted(0.2), predicted(kept_share, size)
    assert outside.score < inside.score
    assert outside.low < inside.low and outside.high > inside.high


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_whatever_the_features_the_score_lies_in_its_interval_and_in_0_to_1(kept_share, size):
    found = predicted(kept_share, size)
    assert 0.0 <= found.low <= found.score <= found.high <= 1.0


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_of_a_signal_never_lowers_the_score(one, other):
    assert predicted(min(one, other)).score <= predicted(max(one, other)).score


def test_evidence_is_read_back_as_it_was_written():
    assert from_json(EVIDENCE.as_json()) == EVIDENCE


@pytest.mark.parametrize("broken", ["", "{}", EVIDENCE.as_json().replace("1.5,", "1.5, 2.5,")])
def test_broken_evidence_is_refused(broken):
    with pytest.raises((ValueError, KeyError)):
        from_json(broken)


def test_the_packaged_evidence_is_of_features_that_the_packaged_selector_notes():
    evidence = packaged_evidence()
    noted = Selection(None).select(Task(parts=(), shields=(), query="", budget_tokens=1, count=len)).features
    assert {one.name for one in (*evidence.signals, *evidence.seen)} <= set(noted)
    assert all(weight >= 0 for weight in evidence.weights[1:])
    assert all(one.spread > 0 and one.least <= one.most for one in (*evidence.signals, *evidence.seen))
