"""Metrics that people use, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from nas.ensemble.usual_metrics import compute_usual_metrics, format_metrics


def column(*values):
    return np.array(values, float)[:, None]


def test_numbers():
    found = compute_usual_metrics(column(1, 2, 6), column(2, 2, 4), None)
    assert found["rmse"] == pytest.approx(np.sqrt(5 / 3))
    assert found["mae"] == pytest.approx(1)
    assert found["r2"] == pytest.approx(1 - 5 / 14)
    assert format_metrics(found) == "RMSE 1.291, MAE 1, R² 0.6429"


def test_two_classes():
    found = compute_usual_metrics(column(0, 1, 1, 0), column(0.2, 0.9, 0.4, 0.6), 2)
    assert found["accuracy"] == 0.5
    assert found["auc"] == 0.75
    assert found["f1"] == 0.5
    assert found["log_loss"] == pytest.approx(-np.log([0.8, 0.9, 0.4, 0.4]).mean())


def test_several_classes():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]])
    found = compute_usual_metrics(column(0, 1, 2, 1), p, 3)
    assert found["accuracy"] == 0.75
    assert found["f1"] == pytest.approx(np.mean([2 / 3, 2 / 3, 1]))
    assert found["log_loss"] == pytest.approx(-np.log([0.7, 0.8, 0.6, 0.3]).mean())
    assert 0.5 < found["auc"] <= 1


def test_a_class_that_does_not_occur_leaves_no_auc():
    found = compute_usual_metrics(column(0, 0), column(0.2, 0.6), 2)
    assert "auc" not in found
    assert found["f1"] == 0
