"""Importance of columns, of a result whose predictions are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas.results.importance import compute_importance

NUMBERS = (SimpleNamespace(num_classes=None, width=1, label_shape=(1,)),)
CLASSES = (SimpleNamespace(num_classes=2, width=1, label_shape=(1,)),)


class Result:
    """Stands for a result; it predicts 3 * big + small."""

    table = SimpleNamespace(columns=[SimpleNamespace(name=n) for n in ("noise", "small", "big")])

    def __init__(self, is_class=False):
        self.is_class = is_class

    def predict_arrays(self, x):
        values = 3 * x["big"].to_numpy(float) + x["small"].to_numpy(float)
        return 1 / (1 + np.exp(-9 * values)) if self.is_class else values

    def model_labels(self, y):
        return (y["y"] if isinstance(y, pd.DataFrame) else y).to_numpy().reshape(-1, 1)


@pytest.fixture(scope="module")
def frame():
    frame = pd.DataFrame(
        np.random.default_rng(0).normal(size=(400, 3)), columns=["noise", "small", "big"]
    )
    return frame.assign(y=3 * frame["big"] + frame["small"])


def compute(result, targets, x, y=None, repeats=3, rows=2000, seed=0):
    return compute_importance(result, targets, x, y, repeats, rows, seed)


@pytest.mark.parametrize("is_class", [False, True])
def test_the_columns_that_predictions_follow_come_first(frame, is_class):
    frame = frame.assign(y=(frame["y"] > 0).astype(int)) if is_class else frame
    board = compute(Result(is_class), CLASSES if is_class else NUMBERS, frame)
    assert board["feature"].tolist() == ["big", "small", "noise"]
    assert board["importance"].iloc[2] == 0
    assert board["importance"].iloc[1] > 0
    assert board.attrs["metric"] == ("log_loss" if is_class else "rmse")
    if not is_class:  # the difference of two independent draws
        assert board["importance"].iloc[0] == pytest.approx(3 * np.sqrt(2), rel=0.1)


def test_the_seed_decides_and_labels_may_be_apart(frame):
    first = compute(Result(), NUMBERS, frame, "y", rows=100)
    pd.testing.assert_frame_equal(first, compute(Result(), NUMBERS, frame, frame["y"], rows=100))
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pd.testing.assert_frame_equal(first, compute(Result(), NUMBERS, table, rows=100))
    assert not first.equals(compute(Result(), NUMBERS, frame, rows=100, seed=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repeats": 0}, "repeats must be"),
        ({"rows": 0}, "rows must be"),
        ({"x": np.zeros((3, 3))}, "x must be a pandas DataFrame or an Arrow table"),
        ({"targets": NUMBERS * 2}, "for raw tables with one label"),
    ],
)
def test_what_has_no_importance_is_refused(frame, change, message):
    with pytest.raises(ArgumentError, match=message):
        compute(**{"result": Result(), "targets": NUMBERS, "x": frame, **change})
