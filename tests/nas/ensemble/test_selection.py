from __future__ import annotations

import numpy as np
import pytest

from nas.ensemble import selection

LABELS = np.random.default_rng(0).normal(size=(200, 1))


def score(predictions):
    return float(np.mean((predictions[0] - LABELS) ** 2))


def noisy(seed, scale):
    return [LABELS + np.random.default_rng(seed).normal(size=LABELS.shape) * scale]


def select(predictions, score, size, penalties=None):
    return selection.select(predictions, score, size, penalties or [0.0] * len(predictions))


def mean(predictions, weights):
    return [sum(weight * predictions[i][0] for i, weight in weights.items())]


def test_independent_errors_cancel():
    predictions = [noisy(seed, 1.0) for seed in range(6)]
    weights = select(predictions, score, 8)
    assert len(weights) > 3
    assert sum(weights.values()) == pytest.approx(1)
    assert score(mean(predictions, weights)) < min(map(score, predictions)) / 2


def test_it_is_never_worse_than_the_best_alone():
    good = noisy(0, 0.1)
    assert select([noisy(1, 5.0), good, noisy(2, 9.0)], score, 8) == {1: 1.0}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_size_is_a_limit(size):
    predictions = [noisy(seed, 1.0) for seed in range(6)]
    weights = select(predictions, score, size)
    assert 1 <= len(weights) <= size
    assert score(mean(predictions, weights)) <= min(map(score, predictions)) + 1e-12


def test_scores_that_are_not_numbers_are_left_out():
    bad = [np.full_like(LABELS, np.nan)]
    assert set(select([bad, noisy(1, 1.0), noisy(2, 1.0)], score, 8)) == {1, 2}


def test_a_penalty_counts_by_the_weight_of_its_member():
    same = noisy(0, 1.0)
    assert select([same, same], score, 8, [0.1, 0.0]) == {1: 1.0}
    predictions = [noisy(seed, 1.0) for seed in range(3)]
    plain = select(predictions, score, 8)
    weights = select(predictions, score, 8, [0.0, 0.3, 0.0])
    assert 0 < weights.get(1, 0.0) < plain[1]
    assert set(select(predictions, score, 8, [0.0, 5.0, 5.0])) == {0}
