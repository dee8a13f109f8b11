"""Corrections of confidences: worlds in which the right answer is known, and what must hold for any posterior."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.consolidation.calibration import ece, log_loss
from voxpop.consolidation.recalibration import (
    CORRECTIONS,
    Isotonic,
    RecalibrationError,
    Temperature,
    cross_validated,
)


def world(n, K, temperature, seed=0):
    """Return posteriors that are too sure by a known temperature, and truths drawn from the honest ones."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(n, K))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([generator.choice(K, p=row) for row in honest])
    sure = honest**temperature
    return sure / sure.sum(axis=1, keepdims=True), truth, honest


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature):
    posterior, truth, honest = world(20_000, 3, temperature)
    found = Temperature.fit(posterior, truth)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(found.apply(posterior), honest, atol=0.02)


@pytest.mark.parametrize("kind", CORRECTIONS.values())
def test_a_method_that_is_too_sure_becomes_honest_on_items_not_seen(kind):
    posterior, truth, _ = world(6_000, 3, 4.0)
    corrected = kind.fit(posterior[:3_000], truth[:3_000]).apply(posterior[3_000:])
    right = truth[3_000:] == posterior[3_000:].argmax(axis=1)
    assert ece(posterior[3_000:].max(axis=1), right) > 0.15
    assert ece(corrected.max(axis=1), right) < 0.04
    assert log_loss(corrected, truth[3_000:]) < log_loss(posterior[3_000:], truth[3_000:])


def test_the_curve_is_the_best_rising_one():
    """Pooling by hand: 0 1 | 0 1 1 1 becomes 0, 1/2, 1/2, 1, 1, 1 before the half right and half wrong are added."""
    confidence = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    right = np.array([0, 1, 0, 1, 1, 1])
    found = Isotonic.fit(np.stack([confidence, 1 - confidence], axis=1), 1 - right)
    assert found.confidence.tolist() == pytest.approx([0.5, 0.65, 0.9])
    assert found.right.tolist() == pytest.approx([0.5 / 2, 1.5 / 3, 3.5 / 4])


posteriors = st.integers(1, 5).flatmap(
    lambda K: st.lists(
        st.lists(st.floats(0, 1), min_size=K, max_size=K).filter(lambda row: sum(row) > 0.01), min_size=1, max_size=30
    )
)


@given(rows=posteriors, kind=st.sampled_from(list(CORRECTIONS.values())), seed=st.integers(0, 9))
@settings(deadline=None)
def test_rows_stay_probabilities_and_labels_stay(rows, kind, seed):
    posterior = np.array(rows)
    posterior /= posterior.sum(axis=1, keepdims=True)
    truth = np.random.default_rng(seed).integers(0, posterior.shape[1], posterior.shape[0])
    corrected = kind.fit(posterior, truth).apply(posterior)
    assert (corrected >= 0).all()
    np.testing.assert_allclose(corrected.sum(axis=1), 1)
    before = posterior.argmax(axis=1)
    at = np.arange(before.size)
    assert (corrected[at, before] >= corrected.max(axis=1) - 1e-12).all()


def test_the_temperature_survives_gold_that_a_method_ruled_out():
    posterior = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = Temperature.fit(posterior, [0, 1, 1])
    assert 1 < found.temperature < 64
    assert found.apply(posterior)[0, 0] == pytest.approx(2 / 3, abs=0.01)


def test_folds_correct_each_item_by_the_others():
    posterior, truth, _ = world(500, 2, 3.0)
    corrected = cross_validated(Temperature, posterior, truth)
    assert corrected.shape == posterior.shape
    temperatures = np.log(posterior[:, 0] / posterior[:, 1]) / np.log(corrected[:, 0] / corrected[:, 1])
    assert np.unique(np.round(temperatures, 6)).size == 5
    assert corrected.tobytes() == cross_validated(Temperature, posterior, truth).tobytes()


@pytest.mark.parametrize(
    ("posterior", "truth", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "no gold items"),
        ([[0.5, 0.5]], [2], "truth holds places among the 2 classes"),
        ([[0.5, 0.5]], [-1], "leave out other items"),
        ([[0.5, 0.5]], [0, 1], r"shapes \(1, 2\) and \(2,\)"),
    ],
)
def test_gold_that_cannot_be_used(posterior, truth, message):
    for kind in CORRECTIONS.values():
        with pytest.raises(RecalibrationError, match=message):
            kind.fit(posterior, truth)


def test_too_few_for_folds():
    with pytest.raises(RecalibrationError, match="3 gold items cannot make 5 folds"):
        cross_validated(Temperature, np.full((3, 2), 0.5), [0, 1, 0])
