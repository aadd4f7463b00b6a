"""The fit finds what made outcomes come out, and never lets more of a signal lower the score."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.compressor.fit_quality import SEEN, SIGNALS, fitted, fitted_formats, logistic
from benchmarks.compressor.format_trials import FormatTrial
from services.compressor.quality.calibrated import Calibrated


def made_up_outcomes(count: int = 2000):
    draw = np.random.default_rng(1)
    for number in range(count):
        features = {name: float(draw.uniform(0, 1)) for name in (*SIGNALS, *SEEN)}
        chance = 1 / (1 + np.exp(-(4 * features["kept_share"] - 1 - 2 * features["agreement"])))
        yield SimpleNamespace(question=number, features=features, is_unchanged=bool(draw.uniform() < chance))


def test_weights_are_those_that_made_the_outcomes():
    draw = np.random.default_rng(2)
    rows = np.column_stack([np.ones(4000), draw.normal(size=(4000, 2))])
    outcomes = (draw.uniform(size=4000) < 1 / (1 + np.exp(-rows @ np.array([0.5, 1.0, -1.0])))).astype(float)
    assert logistic(rows, outcomes) == pytest.approx([0.45, 0.85, 0.0], abs=0.15)


def test_a_signal_that_came_with_more_changes_has_no_weight_and_one_that_helped_has(monkeypatch):
    monkeypatch.setattr("benchmarks.compressor.fit_quality.ROUNDS", 5)
    evidence = fitted(list(made_up_outcomes()), "a reader")
    weight = dict(zip((one.name for one in evidence.signals), evidence.weights[1:], strict=True))
    assert weight["agreement"] == 0
    assert weight["kept_share"] == max(weight.values()) > 0.5
    features = dict.fromkeys((*SIGNALS, *SEEN), 0.5)
    low, high = (Calibrated(evidence).predict({**features, "kept_share": one}).score for one in (0.1, 0.9))
    assert low < 0.5 < high


def format_outcomes(stage: str, count: int, unchanged: int, *, earlier: tuple[str, ...] = ()):
    return [
        FormatTrial(
            question=number,
            rewritten_by=(*earlier, stage),
            reduction=0.5,
            score=0.5,
            was_right=True,
            is_right=number < unchanged,
        )
        for number in range(count)
    ]


def test_a_format_counts_for_what_it_changed_after_those_before_it():
    found = fitted_formats(
        [
            *format_outcomes("json_minify", 100, 80),
            *format_outcomes("record_table", 100, 60, earlier=("json_minify",)),
        ]
    )
    assert found["json_minify"].score == pytest.approx(0.8, abs=0.01)
    assert found["record_table"].score == pytest.approx(0.6 / 0.8, abs=0.01)
    for one in found.values():
        assert 0.6 < one.low < one.score < one.high < 0.9


def test_a_format_that_changed_nothing_is_no_certainty():
    found = fitted_formats(format_outcomes("json_minify", 20, 20))["json_minify"]
    assert 0.8 < found.low < found.score < 1 == found.high
