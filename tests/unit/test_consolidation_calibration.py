"""Scores against gold, by hand and by the oracle."""

import math

import naive
import numpy as np
import pytest

from voxpop.consolidation.calibration import accuracy, brier, ece, log_loss, reliability


def test_reliability_by_hand():
    bins = reliability([0.0, 0.5, 0.5, 1.0, 0.51], [0, 1, 0, 1, 1], n_bins=2)
    assert bins.edges.tolist() == [0, 0.5, 1]
    assert bins.count.tolist() == [3, 2]
    np.testing.assert_allclose(bins.confidence, [1 / 3, 0.755])
    np.testing.assert_allclose(bins.accuracy, [1 / 3, 1])
    assert ece([0.0, 0.5, 0.5, 1.0, 0.51], [0, 1, 0, 1, 1], n_bins=2) == pytest.approx(2 * 0.245 / 5)


@pytest.mark.parametrize("n_bins", [1, 7, 10, 15])
def test_ece_equals_the_oracle(n_bins):
    generator = np.random.default_rng(n_bins)
    confidence = np.round(generator.random(500), 2)
    correct = generator.random(500) < confidence
    expected = naive.calibration_error(confidence.tolist(), correct.tolist(), n_bins)
    assert ece(confidence, correct, n_bins) == pytest.approx(expected, abs=1e-12)


def test_brier_log_loss_and_accuracy_by_hand():
    posterior = [[0.5, 0.5, 0], [0, 0, 1.0]]
    assert brier(posterior, [0, 2]) == pytest.approx(0.25)
    assert brier(posterior, [0, 0]) == pytest.approx((0.5 + 2) / 2)
    assert log_loss(posterior, [0, 2]) == pytest.approx(math.log(2) / 2)
    assert log_loss(posterior, [0, 0], smallest=1e-3) == pytest.approx((math.log(2) + math.log(1000)) / 2)
    assert accuracy(["a", "b"], ["a", "c"]) == 0.5


def test_a_truth_that_is_no_class_is_as_wrong_as_can_be():
    assert brier([[1.0, 0.0]], [2]) == pytest.approx(2)
    assert log_loss([[1.0, 0.0]], [2]) == pytest.approx(-math.log(1e-15))


def test_scores_of_nothing_are_nan():
    assert math.isnan(ece([], []))
    assert math.isnan(accuracy([], []))
    assert math.isnan(brier(np.zeros((0, 2)), []))
    assert math.isnan(log_loss(np.zeros((0, 2)), []))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ece([1.2], [1]), "confidence 0 is 1.2"),
        (lambda: ece([float("nan")], [1]), "confidence 0 is nan"),
        (lambda: ece([0.5, 0.5], [1]), "shapes"),
        (lambda: ece([[0.5]], [[1]]), "shape"),
        (lambda: ece([0.5], [1], 0), "n_bins is 0"),
        (lambda: accuracy([1, 2], [1]), "shapes"),
        (lambda: brier([[0.5, 0.5]], [-1]), "leave out items without gold"),
        (lambda: log_loss([0.5], [1]), "shapes"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
