"""Raw tables in memory: kinds, statistics and encoding."""

from __future__ import annotations

import datetime
import decimal

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.table.arrow_table import ArrowTable
from cerebros_spark.data.table.matrix import encode_matrix
from cerebros_spark.data.table.schema import CategoryColumn, DatetimeColumn, NumberColumn


def learn(columns: dict, column_types=None, rows=None):
    table = ArrowTable.create(pa.table(columns), column_types)
    count = table.rows
    schema = table.learn(np.arange(count) if rows is None else np.asarray(rows))
    return schema, table.encode(schema.columns)


def encode_one(values, **types):
    schema, fields = learn({"x": values}, types or None)
    (column,) = schema.columns
    return column, fields["x"], encode_matrix(schema, fields)


def test_numbers_are_scaled_by_their_quartiles_and_clipped():
    values = np.arange(101.0)
    column, field, matrix = encode_one(values)
    assert column == NumberColumn("x", "double", "number", (50.0,), (0.02,), (False,))
    np.testing.assert_allclose(field, (values - 50) / 50, rtol=1e-6)
    np.testing.assert_allclose(matrix[:, 0], field / np.sqrt(1 + (field / 3) ** 2), rtol=1e-6)


def test_missing_numbers_become_the_median_beside_an_indicator():
    _, field, matrix = encode_one([1.0, 2.0, None, 4.0, 3.0, float("nan")])
    assert np.isnan(field[[2, 5]]).all()
    assert (matrix[[2, 5], 0] == 0).all()
    assert matrix[:, 1].tolist() == [0, 0, 1, 0, 0, 1]


def test_quantiles_of_many_rows_are_close():
    values = np.random.default_rng(0).lognormal(size=20_000)
    column, _, _ = encode_one(values)
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    assert column.center[0] == pytest.approx(middle, abs=0.02 * (high - low))
    assert 1 / column.scale[0] == pytest.approx(high - low, rel=0.02)


def test_a_number_that_is_mostly_zero_is_scaled_by_its_range():
    column, _, matrix = encode_one([0.0] * 30 + [8.0, -2.0])
    assert (column.center, column.scale) == ((0.0,), (0.2,))
    assert matrix[-2, 0] == pytest.approx(1.6 / np.sqrt(1 + (1.6 / 3) ** 2))


@pytest.mark.parametrize(
    "values",
    [
        1_700_000_000 + np.arange(60),
        1_700_000_000.0 + np.arange(60) / 4,
        2**60 + np.arange(60),
        -(2**62) + np.arange(60),
        [decimal.Decimal(10**25) + i * 10**15 for i in range(60)],
        1e285 * (1 + np.arange(60) / 100),
        1e-285 * (1 + np.arange(60) / 100),
    ],
    ids=["seconds", "quarters", "ids", "negative", "decimals", "large", "small"],
)
def test_large_values_keep_their_order_and_differences(values):
    _, field, matrix = encode_one(values, x="numeric")
    steps = np.diff(field)
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)
    assert (np.diff(matrix[:, 0]) > 0).all()


def test_an_outlier_takes_the_limit():
    _, _, matrix = encode_one([*np.arange(100.0), 1e285, -1e285])
    assert matrix[-2:, 0] == pytest.approx([3.0, -3.0], rel=1e-6)


def test_infinite_values_are_named_and_counted():
    with pytest.raises(
        DataError, match="'x' has 2 infinite values in 4 rows; the column 'z' has 1"
    ):
        learn({"x": [1.0, np.inf, -np.inf, 2.0], "y": [1, 2, 3, 4], "z": [np.inf, 1.0, 2.0, 3.0]})


def test_categories_are_coded_with_missing_and_rare_ones_apart():
    values = ["b", "a", None, "b", "a", "", "b", "once", "a", "c", "c", "b"]
    column, field, matrix = encode_one(values)
    assert column.values == ("a", "b", "c")
    assert (column.missing, column.other, column.encoding) == (True, True, "one_hot")
    assert field.tolist() == [3, 2, 0, 3, 2, 0, 3, 1, 2, 4, 4, 3]
    # missing, rare, a, b, c
    assert matrix[[2, 7, 0]].tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]


def test_two_categories_are_one_signed_number():
    column, _, matrix = encode_one(["no", "yes", "yes", "no"])
    assert column.encoding == "signed"
    assert matrix[:, 0].tolist() == [-1, 1, 1, -1]


def test_many_categories_are_codes_for_an_embedding():
    column, field, matrix = encode_one([f"c{i % 50}" for i in range(200)])
    assert column.encoding == "embedded"
    assert matrix[:, 0].tolist() == field.tolist()
    assert set(field) == set(range(2, 52))


def test_integers_are_categories_if_the_user_says_so():
    column, field, _ = encode_one([10, 20, None, 10, -5, 20, -5], x="categorical")
    assert column.values == (-5, 10, 20)
    assert field.tolist() == [3, 4, 0, 3, 2, 4, 2]


def test_booleans_are_signed_with_missing_apart():
    column, field, matrix = encode_one([True, False, None, True, False])
    assert isinstance(column, CategoryColumn)
    assert field.tolist() == [3, 2, 0, 3, 2]
    assert matrix.tolist() == [[0, 1], [0, -1], [1, 0], [0, 1], [0, -1]]


def test_times_have_parts_in_the_local_calendar():
    days = [datetime.date(1969, 12, 31), datetime.date(2000, 2, 29), datetime.date(2024, 7, 1)]
    column, field, matrix = encode_one(days * 4)
    assert isinstance(column, DatetimeColumn)
    assert column.parts == ("elapsed", "year", "month", "day", "weekday")
    np.testing.assert_allclose(field[:3, 2], [11 / 12, 1 / 12, 6 / 12], rtol=1e-6)
    np.testing.assert_allclose(field[:3, 3], [30 / 31, 28 / 31, 0], rtol=1e-6)
    np.testing.assert_allclose(field[:3, 4], [2 / 7, 1 / 7, 0], rtol=1e-6)  # Wed, Tue, Mon
    assert (np.diff(field[:3, 0]) > 0).all()
    assert (np.diff(field[:3, 1]) > 0).all()
    assert matrix.shape == (12, 2 + 12 + 2 + 7)
    assert matrix[:3, 2:14].argmax(axis=1).tolist() == [11, 1, 6]
    assert matrix[:3, 16:].argmax(axis=1).tolist() == [2, 1, 0]
    assert matrix[:, 2:14].sum() == matrix[:, 16:].sum() == 12


def test_calendar_agrees_with_pandas():
    first, last = (np.datetime64(each, "us").astype(int) for each in ("1600-01-01", "2400-01-01"))
    times = pd.Series(np.linspace(first, last, 5000).astype("datetime64[us]"))
    schema, fields = learn({"x": pa.Array.from_pandas(times)})
    field = fields["x"]
    column = schema.columns[0]
    parts = dict(zip(column.parts, field.T, strict=True))
    np.testing.assert_allclose(parts["month"] * 12 + 1, times.dt.month, rtol=1e-5)
    np.testing.assert_allclose(parts["day"] * 31 + 1, times.dt.day, rtol=1e-5)
    np.testing.assert_allclose(parts["weekday"] * 7, times.dt.weekday, atol=1e-5)
    hours = times.dt.hour + times.dt.minute / 60 + times.dt.second / 3600
    np.testing.assert_allclose(parts["hour"] * 24, hours, atol=1e-3)


def test_a_zone_is_shown_as_local_time():
    instants = pd.Series(pd.date_range("2024-01-01", periods=48, freq="h", tz="UTC"))
    there = instants.dt.tz_convert("Asia/Kolkata")
    local = there.dt.tz_localize(None)
    for one, other in zip(
        encode_one(pa.Array.from_pandas(there))[1:],
        encode_one(pa.Array.from_pandas(local))[1:],
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_vectors_are_scaled_by_element():
    rows = np.random.default_rng(0).normal([0, 100], [1, 5], (400, 2))
    column, field, matrix = encode_one(pa.array(list(rows)))
    assert column.width == 2
    assert column.center[1] == pytest.approx(100, abs=1)
    assert field.shape == matrix.shape == (400, 2)


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


@pytest.mark.parametrize("name", [str, int])
def test_categories_that_are_too_many_to_be_known_share_hash_buckets(name):
    frequent = [name(i) for i in range(10_000)]
    others = [name(i) for i in range(10_000, 14_000)]
    column, field, _ = encode_one([*frequent, None, *frequent, *others], x="categorical")
    assert (len(column.values), column.encoding, column.other) == (10_000, "embedded", False)
    assert 450 < column.buckets < 550  # by an estimate of the distinct values
    assert set(field[:10_000]) == set(range(2, 10_002))
    assert field[10_000] == 0
    hashed = field[20_001:]
    assert hashed.min() >= 10_002
    assert hashed.max() < column.codes == 10_002 + column.buckets
    assert len(set(hashed)) > 440


def test_integers_that_exported_models_would_round_are_not_hashed():
    values = [*range(10_000), *range(10_000), *range(2**53, 2**53 + 500)]
    column, field, _ = encode_one(values, x="categorical")
    assert (column.buckets, column.other, field.max()) == (0, True, 10_001)
    assert set(field[20_000:]) == {1}


def test_columns_are_stored_as_before_there_were_hash_buckets():
    column, _, _ = encode_one(["a", "b", "c"] * 10)
    stored = msgspec.to_builtins(column)
    assert "buckets" not in stored
    assert msgspec.convert(stored, CategoryColumn) == column
    hashed = msgspec.structs.replace(column, buckets=3)
    assert msgspec.convert(msgspec.to_builtins(hashed), CategoryColumn) == hashed


def test_without_names_and_embeddings_all_other_categories_are_one():
    values = [f"user {i}" for i in range(10_500) for _ in range(1 + (i < 10_000))]
    named = {"x": "categorical"}
    table = pa.table({"x": [*values, *values]})
    for types, embeds, known in (({}, True, 10_000), (named, False, 100)):
        created = ArrowTable.create(table, types, embeds=embeds)
        schema = created.learn(np.arange(2 * len(values)))
        (column,) = schema.columns
        assert (len(column.values), column.other, column.buckets) == (known, True, 0)


def test_statistics_are_those_of_the_training_rows():
    values = np.r_[np.arange(101.0), np.full(50, 1e6)]
    schema, _ = learn({"x": values}, rows=range(101))
    assert schema.columns[0].center == (50.0,)


def test_all_columns_left_out_are_an_error():
    with pytest.raises(DataError, match="no feature can be used: 'x': all rows have the same"):
        learn({"x": [1] * 30})


def test_unsupported_types_are_named_together():
    table = pa.table({"a": [b"x"], "b": [{"k": 1}], "c": [1]})
    with pytest.raises(ArgumentError, match=r"'a' has the type binary.*'b' has the type struct"):
        ArrowTable.create(table)


def test_the_digest_depends_on_values_and_types():
    columns = {"x": [1, 2, 3], "s": ["a", "b", None]}
    digest = ArrowTable.create(pa.table(columns)).digest()
    assert ArrowTable.create(pa.table(columns)).digest() == digest
    for other in (
        {"x": [1, 2, 4]},
        {"s": ["a", "b", "c"]},
        {"s": ["ab", "", None]},
        {"x": [1.0, 2, 3]},
    ):
        assert ArrowTable.create(pa.table({**columns, **other})).digest() != digest
    assert ArrowTable.create(pa.table(columns), {"x": "categorical"}).digest() != digest


def test_ignored_columns_of_any_type_are_not_read():
    table = {"m": [{"k": 1}] * 30, "b": [b"x"] * 30, "n": [1, 2, 3] * 10}
    schema, fields = learn(table, {"m": "ignore", "b": "ignore"})
    assert list(fields) == ["n"]
    assert [(each.name, each.is_used) for each in schema.summary] == [
        ("m", False),
        ("b", False),
        ("n", True),
    ]


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_integers_that_are_no_microseconds_give_a_warning(unit, caplog):
    seconds = np.arange(60) * 86400 + 1_700_000_000
    schema, _ = learn({"at": seconds * unit}, {"at": "datetime"})
    assert isinstance(schema.columns[0], DatetimeColumn)
    is_likely = unit == 10**6
    assert ("'at' holds integers, which count as microseconds" in caplog.text) != is_likely
