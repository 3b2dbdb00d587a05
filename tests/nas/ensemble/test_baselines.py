from __future__ import annotations

import threading

import numpy as np
import pytest

from cerebros_spark.core.types import Phase
from cerebros_spark.data.table.schema import CodeLayout, MatrixLayout
from nas.ensemble.baselines import describe_rank, predict_baselines
from nas.ensemble.rows import Rows

FRONT = MatrixLayout(numbers=2, flags=1, codes=(CodeLayout(codes=400, missing=True, other=True),))
FOLDS = 2


class InMemory:
    """Rows of two folds without a store, in place of those of a search."""

    folds = FOLDS

    def __init__(self, label, codes=12):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(1200, 4)).astype("float32")
        x[:, 3] = rng.integers(0, codes, 1200)
        self.y = label(x, rng)[:, None]
        x[:, :2] /= np.sqrt(1 + (x[:, :2] / 3) ** 2)  # as shards are encoded
        self.x = x

    def _take(self, rows):
        return Rows([self.x[rows]], [self.y[rows]], None)

    def read(self, phase, fold):
        assert phase is Phase.TRAIN
        return self._take(np.arange(1200) % FOLDS != fold)

    @property
    def held_out(self):
        return [self._take(np.arange(1200) % FOLDS == fold) for fold in range(FOLDS)]

    def truth(self):
        return np.concatenate([rows.y[0] for rows in self.held_out])


def predict(rows, classes):
    parts = dict(predict_baselines(rows, [FRONT], classes))
    return {name: np.concatenate(each) for name, each in parts.items()}


def test_a_linear_label_is_found_by_the_linear_model():
    rows = InMemory(lambda x, rng: 3 * x[:, 0] - x[:, 1] + rng.normal(size=len(x)) * 0.1)
    errors = {n: np.mean((p - rows.truth()) ** 2) for n, p in predict(rows, None).items()}
    assert errors["linear"] < 0.05 < errors["boosting"] < errors["constant"]


def test_a_category_is_used_by_both_models():
    rows = InMemory(lambda x, _: (x[:, 3] % 3 == 0) * 5.0, codes=12)
    errors = {n: np.mean((p - rows.truth()) ** 2) for n, p in predict(rows, None).items()}
    assert max(errors["linear"], errors["boosting"]) < errors["constant"] / 10


def test_more_categories_than_boosting_takes_are_no_error():
    rows = InMemory(lambda x, _: x[:, 0], codes=400)
    assert set(predict(rows, None)) == {"constant", "linear", "boosting"}


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_have_the_form_of_a_network(classes):
    edges = [0.0] if classes == 2 else [-0.5, 0.5]
    rows = InMemory(lambda x, _: np.digitize(x[:, 0], edges).astype(float))
    for name, predicted in predict(rows, classes).items():
        assert predicted.shape == (1200, 1 if classes == 2 else 3)
        assert ((predicted >= 0) & (predicted <= 1)).all()
        if classes == 3:
            np.testing.assert_allclose(predicted.sum(axis=1), 1, atol=1e-6)
        best = predicted[:, 0] > 0.5 if classes == 2 else predicted.argmax(axis=1)
        if name != "constant":
            assert np.mean(best == rows.truth()[:, 0]) > 0.9


def test_a_class_that_a_fold_lacks_has_no_probability():
    rows = InMemory(lambda x, _: np.where(np.arange(len(x)) == 0, 2.0, x[:, 0] > 0))
    predicted = predict(rows, 3)  # only fold 0 validates the row of class 2
    for name in ("linear", "boosting"):
        assert (predicted[name][:600, 2] == 0).all()


def test_a_model_that_fails_is_left_out(monkeypatch):
    import sklearn.ensemble

    def fail(**_):
        raise MemoryError("too large")

    monkeypatch.setattr(sklearn.ensemble, "HistGradientBoostingRegressor", fail)
    assert set(predict(InMemory(lambda x, _: x[:, 0]), None)) == {"constant", "linear"}


def test_nothing_is_fitted_after_a_stop():
    stop = threading.Event()
    stop.set()
    assert not list(predict_baselines(InMemory(lambda x, _: x[:, 0]), [FRONT], None, stop))


def test_the_best_simple_model_is_named_if_it_did_as_well():
    scores = {"constant": 2.0, "linear": 0.9, "boosting": 0.8}
    assert "boosted trees" in describe_rank(scores, 0.85, 1.0)
    assert describe_rank(scores, 0.5, 1.0) is None
    assert "the mean" in describe_rank(scores, 0.95, -1.0)
