"""Raw tables in memory: features and labels at the edges of what users pass."""

from __future__ import annotations

import autokeras as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.data.splits import SplitRule
from nas.data.table import TableOptions, index_labels, name_table


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


def test_rows_without_a_label_do_not_count_as_the_latest():
    frame = pd.DataFrame({"t": pd.date_range("2020", periods=10), "x": range(10)})
    frame["y"] = [1.0] * 8 + [np.nan] * 2
    rule = SplitRule("t", True, 0.25, 0)
    named = name(frame, "y", ak.RegressionHead(), rule=rule)
    assert named.columns["__cerebros_split"].tolist() == [False] * 6 + [True] * 2


def test_categories_stay_categories_with_validation_data():
    first = pd.DataFrame({"zip": pd.Categorical([1, 2, 3, 1] * 2), "y": [0, 1] * 4})
    second = pd.DataFrame({"zip": pd.Categorical([2, 9]), "y": [0, 1]})
    column = name(first, "y", validation_data=(second, "y")).table.table.column("zip")
    assert pa.types.is_dictionary(column.type)
    assert column.to_pylist() == [1, 2, 3, 1, 1, 2, 3, 1, 2, 9]


def test_labels_in_a_list_may_be_missing():
    frame = pd.DataFrame({"x": np.arange(4.0)})
    named = name(frame, ["yes", "no", float("nan"), None])
    assert named.columns["target"].tolist() == [1, 0]
    assert name(frame, ["yes", 1, "yes", 1]).columns["target"].tolist() == [1, 0, 1, 0]
