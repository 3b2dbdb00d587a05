"""Raw tables in memory: labels, features and new rows, at the edges of what users pass."""

from __future__ import annotations

import datetime

import autokeras as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.table.arrow_table import ArrowTable
from nas.data.splits import SplitRule
from nas.data.table import (
    TableOptions,
    encode_rows,
    index_labels,
    name_table,
    to_arrow,
    to_frame,
)


def learn(frame: pd.DataFrame, **types: str):
    return ArrowTable.create(to_arrow(to_frame(frame), types), types).learn(np.arange(len(frame)))


def encode(frame: pd.DataFrame, schema) -> np.ndarray:
    (matrix,) = encode_rows(frame, schema, [[column.name for column in schema.columns]])
    return matrix


def name(x, y, head=None, **options):
    defaults = {
        "feature_columns": None,
        "label_columns": None,
        "validation": 0.2,
        "validation_data": None,
        "sample_weight": None,
        "weight_column": None,
    }
    heads = [head or ak.ClassificationHead()]
    return name_table(x, y, TableOptions(heads), **{**defaults, **options})


def test_instants_are_encoded_in_the_zone_of_training():
    times = pd.Series(pd.date_range("2024-01-01", periods=60, freq="7h", tz="Europe/Berlin"))
    schema = learn(pd.DataFrame({"t": times}))
    assert schema.columns[0].zone == "Europe/Berlin"
    expected = encode(pd.DataFrame({"t": times}), schema)
    for other in (times.dt.tz_convert("UTC"), times.dt.tz_localize(None)):
        np.testing.assert_array_equal(encode(pd.DataFrame({"t": other}), schema), expected)
    plain = learn(pd.DataFrame({"t": times.dt.tz_localize(None)}))
    with pytest.raises(DataError, match="'t' holds times with the zone Europe/Berlin, but"):
        encode(pd.DataFrame({"t": times}), plain)


def test_kinds_that_users_set_hold_for_new_rows_of_the_same_types():
    days = [datetime.date(2020, 1, 1 + i % 3) for i in range(60)]
    for frame, types in (
        (pd.DataFrame({"t": np.arange(60) * 10**12}), {"t": "datetime"}),
        (pd.DataFrame({"t": days}), {"t": "categorical"}),
        (pd.DataFrame({"t": days}), {"t": "numeric"}),
        (pd.DataFrame({"t": [1.0, 2.0, np.nan] * 20}), {"t": "categorical"}),
    ):
        schema = learn(frame, **types)
        assert len(encode(frame, schema)) == 60


def test_a_column_without_any_value_is_missing_whatever_its_type():
    frame = pd.DataFrame(
        {
            "c": ["a", "b", "c"] * 20,
            "d": pd.date_range("2020", periods=60),
            "v": [[1.0, 2.0], [2.0, 3.0]] * 30,
            "n": np.arange(60) % 7,
            "empty": pd.Categorical([None] * 60),
        }
    )
    schema = learn(frame)
    assert [each.name for each in schema.left_out] == ["empty"]
    new = pd.DataFrame({"c": [np.nan], "d": [None], "v": [None], "n": [None], "empty": [1]})
    assert np.isfinite(encode(new, schema)).all()
    assert encode(frame.iloc[:0], schema).shape == (0, schema.matrix.width)


def test_types_of_pandas_are_converted():
    frame = pd.DataFrame(
        {
            "sparse": pd.arrays.SparseArray([0, 1.0, 2] * 20),
            "floats": pd.Categorical([0.5, 1.5, 2.5] * 20),
            "small": pd.to_timedelta(np.arange(60) * 10**4, unit="ns"),
            "half": np.arange(60, dtype=np.float16),
            "nullable": pd.array([1, None, 3] * 20, dtype="Int64"),
            "arrow": pd.array(["x", None, "y"] * 20, dtype=pd.ArrowDtype(pa.large_string())),
        }
    )
    schema = learn(frame)
    assert len(schema.columns) == 6
    assert schema.columns[1].values == ("0.5", "1.5", "2.5")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["\ud800", "a"], "'x' holds values of the type str that cannot be used"),
        ([1j, 2j], "'x' holds values of the type complex"),
        ([10**30, 1], "'x' holds values of the type int"),
        (["a\0", "b"], "'x' holds strings with the character NUL"),
        ([1e300, 1.0], "'x' has values up to 1e\\+300, beyond 1e\\+290"),
    ],
)
def test_values_that_cannot_be_used_are_named(values, message):
    with pytest.raises(DataError, match=message):
        learn(pd.DataFrame({"x": values * 30, "z": range(60)}))


def test_all_unusable_columns_are_named_at_once():
    frame = pd.DataFrame({"a": [1, "x"] * 30, "b": [1j] * 60, "c": range(60)})
    with pytest.raises(DataError, match=r"the column .a. .*; the column .b. "):
        to_arrow(frame)
    assert to_arrow(frame, {"a": "ignore", "b": "ignore"}).column_names == ["c"]


def test_categories_that_users_ask_for_are_known_even_if_they_are_rare():
    frame = pd.DataFrame({"id": [f"u{i}" for i in range(300)], "z": np.arange(300) % 7})
    assert learn(frame).left_out[0].name == "id"
    assert learn(frame, id="categorical").columns[0].codes == 302


# Labels ----------------------------------------------------------------------------------


def test_unused_categories_are_no_classes():
    labels = pd.DataFrame({"y": pd.Categorical(["u", "v"] * 5, categories=["u", "v", "w"])})
    classes, columns = index_labels(labels, [ak.ClassificationHead()])
    assert classes[0].values == ("u", "v")
    assert columns["y"].tolist() == [0, 1] * 5


def test_num_classes_must_agree():
    numbers, words = pd.DataFrame({"y": [0, 1, 2]}), pd.DataFrame({"y": ["a", "b", "c"]})
    classes, _ = index_labels(numbers, [ak.ClassificationHead(num_classes=5)])
    assert classes[0].values == (0, 1, 2, 3, 4)
    with pytest.raises(DataError, match=r"'y' has 3 classes, but .* num_classes=5"):
        index_labels(words, [ak.ClassificationHead(num_classes=5)])


def test_missing_labels_of_any_type_are_left_out():
    frame = pd.DataFrame({"x": np.arange(6.0)})
    for y in (
        ["a", None, "b", "", "a", np.nan],
        pd.array([1, None, 2, None, 1, None], dtype="Int64"),
        pd.array([1.0, None, 2.0, float("nan"), 1.0, None], dtype=pd.ArrowDtype(pa.float64())),
        pd.array([True, None, False, None, True, None], dtype="boolean"),
    ):
        named = name(frame, pd.Series(y, name="y"))
        assert named.columns["y"].tolist() in ([0, 1, 0], [1, 0, 1])


def test_label_arguments_that_do_not_fit_are_refused():
    frame = pd.DataFrame({"a": range(6), "b": range(6)})
    with pytest.raises(ArgumentError, match="y must be the labels or the name"):
        name(frame, 3)
    with pytest.raises(ArgumentError, match="no column besides the label"):
        name(frame[["a"]], "a")
    with pytest.raises(ArgumentError, match="two columns that are called '1'"):
        name(pd.DataFrame([[1, 2, 3]], columns=[1, "1", "y"]), "y")
    # A name in y comes before the bound one.
    named = name(frame, "b", ak.RegressionHead(), label_columns=["a"])
    assert (named.labels, named.features) == (["b"], ["a"])


def test_large_integers_survive_validation_data_with_missing_values():
    first = pd.DataFrame({"id": 2**60 + np.arange(8), "y": [0, 1] * 4})
    second = pd.DataFrame({"id": [5.0, np.nan], "y": [0, 1]})
    named = name(first, "y", validation_data=(second, "y"))
    ids = named.table.table.column("id").to_pylist()
    assert ids == [*(2**60 + i for i in range(8)), 5, None]


# Splits ----------------------------------------------------------------------------------


def test_times_may_be_dates_and_numbers_but_no_strings():
    for values in (
        [datetime.date(2020, 1, 1 + i) for i in range(10)],
        pd.date_range("2020", periods=10),
        np.arange(10) / 2,
    ):
        marks = SplitRule("t", True, 0.3, 0).mark(pd.DataFrame({"t": values}))
        assert marks.tolist() == [False] * 7 + [True] * 3
    with pytest.raises(DataError, match="time_column 't' has the type object, but must hold dates"):
        SplitRule("t", True, 0.3, 0).mark(pd.DataFrame({"t": ["9/1/2020", "10/1/2020"]}))
    with pytest.raises(DataError, match="group_column 't' has the type list, but must hold single"):
        SplitRule("t", False, 0.3, 0).mark(pd.DataFrame({"t": [[1], [2]]}))


def test_rows_without_a_label_do_not_count_as_the_latest():
    frame = pd.DataFrame({"t": pd.date_range("2020", periods=10), "x": range(10)})
    frame["y"] = [1.0] * 8 + [np.nan] * 2
    rule = SplitRule("t", True, 0.25, 0)
    named = name(frame, "y", ak.RegressionHead(), rule=rule)
    assert named.columns["__cerebros_split"].tolist() == [False] * 6 + [True] * 2
