"""Choice of the features, and of the kinds of columns of CSV."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pyarrow as pa
import pytest

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.cli.column_kinds import ColumnScan
from nas.cli.spark_types import scan_spark
from nas.cli.table import Table
from nas.cli.table_columns import (
    choose_features,
    choose_head,
    infer_kinds,
    match_kinds,
    predict_table,
)


def scan(*values: str) -> ColumnScan:
    result = ColumnScan()
    result.add(pa.array(values, pa.string()))
    return result


def choose(table: Table, **more):
    arguments = {"features": (), "labels": ("y",), "head": "regression", "mark": None}
    return choose_features(table, **{**arguments, **more})


def test_features_are_the_columns_without_another_role(spark, caplog):
    table = Table(spark.createDataFrame([("0", "1", "x", "2")], ["_c0", "a", "late", "y"]))
    assert choose(table, mark="late") == ("_c0", "a")
    unnamed = Table(table.df, unnamed=("_c0",))
    with caplog.at_level(logging.WARNING):
        assert choose(unnamed, mark="late") == ("a",)
    assert "columns without a name are left out" in caplog.text
    assert choose(unnamed, features=("_c0", "a")) == ("_c0", "a")
    with pytest.raises(DataError, match="there is no column 'b', but --features names it"):
        choose(table, features=("b",))
    with pytest.raises(ArgumentError, match="'a' is a feature, and a label"):
        choose(table, features=("a",), labels=("a",))
    with pytest.raises(DataError, match="no column left to be a feature"):
        choose(unnamed, mark="late", labels=("a", "y"))
    with pytest.raises(ArgumentError, match="takes one --label, but got 2"):
        choose(table, head="classification", labels=("a", "y"))


def test_users_may_set_the_kind_of_a_column():
    scans = {"zip": scan("007", "8"), "size": scan("1", "2.5"), "day": scan("2024-01-01")}
    assert infer_kinds(scans, {}) == {"zip": "string", "size": "number", "day": "date"}
    kinds = infer_kinds(scans, {"zip": "numeric", "size": "categorical", "day": "ignore"})
    assert kinds == {"zip": "digits", "size": "string", "day": "string"}
    with pytest.raises(DataError, match="'size' holds '1', but must hold dates or times"):
        infer_kinds(scans, {"size": "datetime"})


def test_labels_of_a_regression_are_numbers():
    assert infer_kinds({"y": scan("1", "NA")}, {}, ["y"]) == {"y": "integer"}
    assert infer_kinds({"y": scan("true")}, {}, ["y"]) == {"y": "boolean"}
    with pytest.raises(DataError, match=r"'y' holds 'cheap', but must hold numbers; .*--head"):
        infer_kinds({"y": scan("1", "cheap")}, {}, ["y"])


@pytest.mark.parametrize(
    "value",
    [
        *("1,5", "10%", "$10", "31.12.2024", "31-12-2024", "2024-1-5", "2024-01-01 10:00 UTC"),
        *("2024-01-01T10:00:00+0000", "01-Jan-2024", "December 31, 2024", "1. May 2024"),
    ],
)
def test_numbers_in_another_notation_give_a_warning(value, caplog):
    with caplog.at_level(logging.WARNING):
        assert infer_kinds({"a": scan(value, "NA")}, {}) == {"a": "string"}
        assert f"'a' ({value!r})" in caplog.text
        caplog.clear()
        infer_kinds({"a": scan(value), "b": scan("007")}, {"a": "categorical"})
        infer_kinds({"a": scan("2024-01-01 ERROR"), "b": scan("5 Mayfair 2000")}, {})
    assert not caplog.text


@pytest.mark.parametrize(
    ("recorded", "values", "kind"),
    [
        ("integer", ["2.5"], "number"),
        ("number", ["2"], "number"),
        ("digits", ["007"], "digits"),
        ("date", ["2024-01-01 10:00:00"], "timestamp"),
        ("string", ["3"], "string"),
        ("boolean", ["NA"], "boolean"),
    ],
)
def test_new_values_have_the_recorded_kind_or_a_similar_one(recorded, values, kind):
    assert match_kinds({"a": scan(*values)}, {"a": recorded}) == {"a": kind}


def test_other_values_than_in_the_search_are_refused():
    scans = {"a b": scan("1", "about 2"), "c": scan("1"), "d": scan("x")}
    message = "'a b' holds 'about 2', but held numbers in the search; the column 'c' holds '1'"
    with pytest.raises(DataError, match=message):
        match_kinds(scans, {"a b": "integer", "c": "boolean"})


def test_days_that_do_not_exist_are_counted(caplog):
    scans = {
        "day": scan("2024-02-30", "2024-02-29", "2023-02-29 ", "NA", ""),
        "at": scan("2024-06-31 10:00", "2024-06-30 10:00"),
        "text": scan("2024-06-31", "x"),
        "whole": scan("2024-06-30"),
    }
    kinds = infer_kinds(scans, {})
    assert kinds == {"day": "date", "at": "timestamp", "text": "string", "whole": "date"}
    assert "dates that do not exist, such as 2024-02-30, are missing values: " in caplog.text
    assert "'day' (2), 'at' (1)" in caplog.text
    caplog.clear()
    match_kinds({"day": scans["day"]}, {"day": "date"})
    assert "'day' (2)" in caplog.text


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize(
    ("values", "head"),
    [
        (["a", "b"] * 15, "classification"),
        ([True, False, None] * 10, "classification"),
        ([1, 2, None] * 10, "classification"),
        (list(range(20)), "classification"),
        (list(range(21)), "regression"),
        ([0.5, 1.0] * 15, "regression"),
    ],
)
def test_the_label_decides_on_the_head(spark, is_local, values, head, caplog):
    if is_local:
        table = Table(pa.table({"the y": values}))
    else:
        table = Table(spark.createDataFrame([(each,) for each in values], ["the y"]))
    caplog.set_level(logging.INFO)
    assert choose_head(table, ["the y"], {}) == head
    assert f"--head {head}, because the label 'the y' holds" in caplog.text


def test_the_head_of_strings_of_csv_and_of_several_labels():
    df = pa.table({"y": ["1", "3", "NA"], "z": ["1.5", "2", "3"]})
    table = Table(df, {name: scan(*df.column(name).to_pylist()) for name in ("y", "z")})
    assert choose_head(table, ["y"], {}) == "classification"
    assert choose_head(table, ["z"], {}) == "regression"
    assert choose_head(table, ["z"], {"z": "categorical"}) == "classification"
    assert choose_head(table, ["y", "z"], {}) == "regression"
    with pytest.raises(DataError, match="there is no column 'x', but --label names it"):
        choose_head(table, ["x"], {})
    times = Table(pa.table({"at": pa.array([0, 1], pa.timestamp("us"))}))
    with pytest.raises(ArgumentError, match="'at' holds dates or times, which can be neither"):
        choose_head(times, ["at"], {})


class Result:
    """A result that predicts twice the feature."""

    def transform(self, df):
        assert dict(df.dtypes)["a"] == "bigint"
        return df.selectExpr("*", "a * 2 as y__output")


class Classifier:
    """A result that has probabilities of two or three classes."""

    def __init__(self, *classes):
        self.table = SimpleNamespace(labels=(SimpleNamespace(name="y", values=classes),))
        self.count = len(classes)

    def transform(self, df):
        if isinstance(df, pa.Table):
            values = [0.25] * len(df) if self.count == 2 else [[0.25, 0.5, 0.25]] * len(df)
            return df.append_column("y__output", pa.array(values))
        sql = "0.25D" if self.count == 2 else "array(0.25D, 0.5D, 0.25D)"
        return df.selectExpr("*", f"{sql} as y__output")


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize(
    ("classes", "expected"),
    [(("no", "yes"), [0.75, 0.25]), ((1, 2, 5), [0.25, 0.5, 0.25])],
)
def test_each_class_has_a_column_of_probabilities(spark, is_local, classes, expected):
    df = pa.table({"a": [1, 2]}) if is_local else spark.createDataFrame([(1,), (2,)], ["a"])
    predictions, added = predict_table(Table(df), Classifier(*classes), ["a"], {})
    assert added == [f"y__probability_{each}" for each in classes]
    frame = predictions.to_pandas() if is_local else predictions.toPandas()
    assert frame[added].to_numpy().tolist() == [expected, expected]
    alike = Classifier("Yes", "yes")  # which Spark cannot tell apart
    assert predict_table(Table(df), alike, ["a"], {})[1] == ["y__output"]
    taken = Table(df.rename_columns(added[:1]) if is_local else df.toDF(added[0]))
    with pytest.raises(DataError, match=f"the table has a column '{added[0]}' already"):
        predict_table(taken, Classifier(*classes), [], {})


@pytest.mark.parametrize("is_csv", [True, False])
def test_predictions_keep_the_columns_as_they_are(spark, is_csv):
    df = spark.createDataFrame([("+1", "007"), ("NA", "x")], ["a", "code"])
    scans = scan_spark(df, df.columns)[0] if is_csv else {}
    kinds = {"a": "integer", "code": "string"}
    predictions, added = predict_table(Table(df, scans), Result(), ["a", "code"], kinds)
    assert added == ["y__output"]
    assert [tuple(row) for row in predictions.collect()] == [("+1", "007", 2), ("NA", "x", None)]
    with pytest.raises(DataError, match="there is no column 'b', but it was a feature"):
        predict_table(Table(df), Result(), ["b"], {})
