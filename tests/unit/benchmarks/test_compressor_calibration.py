"""The calibration error is that of its definition."""

import pytest

from benchmarks.compressor.calibration import error_of_chance, expected_error, reliability


def test_predictions_that_come_out_as_often_as_said_have_no_error():
    pairs = [(0.75, True)] * 3 + [(0.75, False)]
    assert expected_error(pairs) == 0


def test_bins_weigh_by_their_count():
    pairs = [(0.95, False)] + [(0.55, True)] * 3
    assert expected_error(pairs) == pytest.approx((1 * 0.95 + 3 * 0.45) / 4)


def test_certainty_falls_into_the_last_bin():
    (only,) = reliability([(1.0, True), (0.9, True)])
    assert (only.count, only.observed) == (2, 1.0)


def test_few_outcomes_differ_from_true_predictions_by_chance_and_many_hardly():
    few, many = error_of_chance([(0.5, True)] * 20), error_of_chance([(0.5, True)] * 2000)
    assert few > 0.05 > many
