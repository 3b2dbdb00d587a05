"""Predictions in memory, by a network whose output is known: the sum of its features."""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.manifest import Layout
from nas.data.heads import Target
from nas.results.output_columns import OutputColumns
from nas.results.predictor import Predictor
from nas.results.trained_network import TrainedNetwork

OUTPUT = (OutputColumns(("y__output",), 1, None),)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    row = keras.Input((2,))
    total = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras.Model(row, total(row))
    model.compile("sgd", "mse", metrics=["mae"])
    target = Target(None, "y", 1, None, "linear", "mse", ("mae",), (1,), "float32")
    layout = Layout((("a", "b"),), (("y",),), ((2,),))
    return Predictor(TrainedNetwork.from_model(model), layout, ("float32",), (target,), None, {})


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"b": [1.0, 2.0], "a": [0.5, 0.25], "y": [2.5, 2.25], "note": ["p", "q"]})


def test_columns_are_found_by_name(predictor, frame):
    assert predictor.predict(frame).ravel().tolist() == [1.5, 2.25]
    assert predictor.predict(np.array([[1, 3]])).tolist() == [[4.0]]


def test_loss_and_metrics_come_in_the_order_of_compile(predictor, frame):
    found = predictor.evaluate(frame, None)
    assert found == pytest.approx({"loss": 0.5, "mae": 0.5})
    assert list(found) == ["loss", "mae"]
    weighted = predictor.evaluate(frame, None, sample_weight=[0.0, 1.0])
    assert weighted["loss"] == 0


@pytest.mark.parametrize("convert", [lambda frame: frame, pa.Table.from_pandas])
def test_outputs_are_added_to_a_table_of_the_same_kind(predictor, frame, convert):
    table = convert(frame)
    added = predictor.add_outputs(table, OUTPUT)
    assert type(added) is type(table)
    plain = added.to_pandas() if isinstance(added, pa.Table) else added
    assert list(plain) == [*frame, "y__output"]
    assert plain["y__output"].tolist() == [1.5, 2.25]
    with pytest.raises(DataError, match="y__output"):
        predictor.add_outputs(added, OUTPUT)


def test_what_cannot_be_scored_is_refused(predictor, frame):
    with pytest.raises(ArgumentError, match="y is missing"):
        predictor.evaluate(np.zeros((2, 2)), None)
    with pytest.raises(DataError, match="no rows"):
        predictor.evaluate(frame.iloc[:0], None)
    with pytest.raises(DataError, match="'b'"):
        predictor.predict(frame.drop(columns="b"))
    with pytest.raises(DataError, match="must have 1 values per row, but got 2"):
        predictor.build_labels(np.zeros((3, 2)))
