"""Which columns are used, and which are left out or refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.schema import CategoryColumn, NumberColumn
from tests.cerebros_spark.data.table.memory_tables import learn


def test_infinite_values_are_named_and_counted():
    with pytest.raises(
        DataError, match="'x' has 2 infinite values in 4 rows; the column 'z' has 1"
    ):
        learn({"x": [1.0, np.inf, -np.inf, 2.0], "y": [1, 2, 3, 4], "z": [np.inf, 1.0, 2.0, 3.0]})


def test_what_cannot_help_is_left_out_with_a_reason():
    rows = 200
    schema, _ = learn(
        {
            "used": np.arange(rows) % 7,
            "row": np.arange(rows) + 5,
            "user": [f"user {i}" for i in range(rows)],
            "constant": ["x"] * rows,
            "empty": pa.nulls(rows),
            "unused": np.arange(rows) % 5,
        },
        {"unused": "ignore"},
    )
    assert [column.name for column in schema.columns] == ["used"]
    reasons = {each.name: each.use for each in schema.left_out}
    assert reasons["row"].startswith("it numbers the rows")
    assert reasons["user"].startswith("nearly every value is different (200 of 200)")
    assert reasons["constant"] == "all rows have the same value"
    assert reasons["empty"] == "it has no values"
    assert reasons["unused"] == 'column_types says "ignore"'
    assert [each.name for each in schema.summary] == [
        "used",
        "row",
        "user",
        "constant",
        "empty",
        "unused",
    ]


@pytest.mark.parametrize("name", ["customer_id", "CustomerID", "userId", "flight id", "uuid"])
def test_integers_that_are_called_ids_are_left_out(name):
    ids = np.random.default_rng(0).integers(0, 2**40, 300)
    schema, _ = learn({"used": np.arange(300) % 7, name: ids})
    reasons = {each.name: each.use for each in schema.left_out}
    assert reasons[name].startswith("it is an id, of which 300 of 300 are different")
    schema, _ = learn({"used": np.arange(300) % 7, name: ids}, {name: "numeric"})
    assert len(schema.columns) == 2


@pytest.mark.parametrize(("name", "step"), [("paid", 1), ("humidity", 1), ("customer_id", 2)])
def test_other_integers_are_used(name, step):
    values = np.random.default_rng(0).integers(0, 2**40, 300) if step == 1 else np.arange(300) // 2
    schema, _ = learn({"used": np.arange(300) % 7, name: values})
    assert [column.name for column in schema.columns] == ["used", name]


def test_ids_are_used_if_the_user_names_them():
    rows = 200
    schema, _ = learn(
        {"row": np.arange(rows), "user": [f"user {i // 2}" for i in range(rows)]},
        {"row": "numeric", "user": "categorical"},
    )
    assert [type(column) for column in schema.columns] == [NumberColumn, CategoryColumn]


def test_all_columns_left_out_are_an_error():
    with pytest.raises(DataError, match="no feature can be used: 'x': all rows have the same"):
        learn({"x": [1] * 30})
