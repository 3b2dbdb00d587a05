from __future__ import annotations

import numpy as np
import pytest

from nas.ensemble import calibration

RNG = np.random.default_rng(0)


def sharpened(classes, factor, rows=20_000):
    """Probabilities whose log-odds are ``factor`` times too large, and labels."""
    logits = RNG.normal(size=(rows, classes)) * 1.5
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([RNG.choice(classes, p=p) for p in true])[:, None]
    wrong = np.exp(logits * factor) / np.exp(logits * factor).sum(axis=1, keepdims=True)
    return (wrong[:, 1:], labels) if classes == 2 else (wrong, labels)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_temperature_undoes_a_factor(classes, factor):
    probabilities, labels = sharpened(classes, factor)
    temperature = calibration.find_temperature(probabilities, labels)
    assert temperature == pytest.approx(factor, rel=0.1)
    after = calibration.apply(probabilities, temperature)
    assert after.shape == probabilities.shape
    before_loss = calibration.compute_log_loss(probabilities, labels)
    assert calibration.compute_log_loss(after, labels) <= before_loss + 1e-9
    if factor != 1.0:
        assert calibration.compute_ece(after, labels) < calibration.compute_ece(
            probabilities, labels
        )


def test_one_hot_labels_are_as_indices():
    probabilities, labels = sharpened(4, 2.0, rows=2000)
    one_hot = np.eye(4)[labels[:, 0]]
    for measure in (calibration.compute_log_loss, calibration.compute_ece):
        assert measure(probabilities, one_hot) == pytest.approx(measure(probabilities, labels))


def test_few_rows_are_not_enough():
    probabilities, labels = sharpened(2, 3.0, rows=50)
    assert calibration.find_temperature(probabilities, labels) == 1.0


def test_certain_and_wrong_is_finite():
    p, y = np.array([[0.0], [1.0]]), np.array([[1], [0]])
    assert np.isfinite(calibration.compute_log_loss(p, y))
    assert np.isfinite(calibration.apply(p, 2.0)).all()
