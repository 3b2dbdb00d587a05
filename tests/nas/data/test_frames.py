"""Columns of pandas as columns of Arrow."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.arrow_table import ArrowTable
from nas.data.frames import find_missing, make_table, to_arrow, to_column, to_frame
from nas.data.new_rows import encode_rows


def learn(frame: pd.DataFrame, **types: str):
    return ArrowTable.create(to_arrow(to_frame(frame), types), types).learn(np.arange(len(frame)))


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


def test_ids_are_left_out_although_missing_ones_make_them_fractions():
    ids = np.array([np.nan, *(1000.0 + 7 * np.arange(59))])
    frame = pd.DataFrame({"user_id": ids, "userId": ids + 0.5, "size": ids, "y": np.sqrt(ids)})
    schema = learn(frame)
    assert [column.name for column in schema.columns] == ["userId", "size", "y"]
    assert "it is an id" in schema.left_out[0].use
    assert schema.columns[1].storage == "number"
    used = learn(frame, user_id="numeric")
    assert [column.name for column in used.columns] == ["user_id", "userId", "size", "y"]


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


def test_labels_of_no_rows_are_not_missing():
    empty = pd.DataFrame({"y": pd.Series([], dtype=float)})
    assert pd.api.types.is_bool_dtype(find_missing(empty)["y"])


def test_all_unusable_columns_are_named_at_once():
    frame = pd.DataFrame({"a": [1, "x"] * 30, "b": [1j] * 60, "c": range(60)})
    with pytest.raises(DataError, match=r"the column .a. .*; the column .b. "):
        to_arrow(frame)
    frame["d"] = [b"x"] * 60  # a type that Arrow has
    with pytest.raises(DataError, match=r"column .a. .*column .b. .*column .d. .*'e'"):
        make_table(frame, {"e": "numeric"})
    schema = learn(frame.drop(columns="d"), a="ignore", b="ignore", c="numeric")
    assert [column.name for column in schema.columns] == ["c"]
    assert [each.name for each in schema.left_out] == ["a", "b"]


@pytest.mark.parametrize("kind", [float, decimal.Decimal])
def test_numbers_without_fractions_are_categories_if_the_user_says_so(kind):
    values = [None, *(kind(i % 3) for i in range(59))]
    frame = pd.DataFrame({"x": values, "z": range(60)})
    (column, _) = learn(frame, x="categorical", z="numeric").columns
    assert (column.values, column.missing) == ((0, 1, 2), True)
    digits = frame.assign(x=[kind(2**53 + 1)] * 60)
    if kind is decimal.Decimal:
        schema = learn(digits.iloc[:30].assign(x=[2**53 + 1, 5] * 15), x="categorical")
        (codes,) = encode_rows(digits, schema, [["x"]])
        assert set(codes[:, 0]) == {1}  # known, and not rounded
    frame.loc[3, "x"] = kind("0.5")
    with pytest.raises(DataError, match="'x' holds numbers with fractions"):
        learn(frame, x="categorical")


def test_values_that_cannot_be_used_are_named_for_all_columns():
    arrays = [[1.0, 2.0], [1.0]] * 30
    large = np.array([2**63, 1] * 30, "uint64")
    frame = pd.DataFrame({"a": arrays, "b": arrays, "c": large, "d": large, "e": range(60)})
    with pytest.raises(DataError, match=r"column .a. has.*column .b. has.*column .c. holds.*.d. "):
        learn(frame)
    nul = pd.DataFrame({"f": ["a\0", "b"] * 30, "e": range(60), "g": ["a", "b\0"] * 30})
    with pytest.raises(DataError, match=r"column .f. holds.*column .g. holds"):
        learn(nul)


def test_categories_that_users_ask_for_are_known_even_if_they_are_rare():
    frame = pd.DataFrame({"id": [f"u{i}" for i in range(300)], "z": np.arange(300) % 7})
    assert learn(frame).left_out[0].name == "id"
    assert learn(frame, id="categorical").columns[0].codes == 302


@pytest.mark.parametrize("missing", [None, np.nan])
def test_missing_values_in_lists_of_strings_stay_missing(missing):
    column = pd.Series(to_column(["x", missing, "y"]))
    assert column.isna().tolist() == [False, True, False]
    frame = to_frame({"a": [1.0, 2.0, 3.0], "z": ("x", missing, "y")})
    assert to_arrow(frame).column("z").to_pylist() == ["x", None, "y"]


def test_arrow_arrays_keep_their_zone():
    times = pa.array([0, 10**15], pa.timestamp("us", tz="Asia/Kolkata"))
    frame = to_frame({"t": times, "chunks": pa.chunked_array([[1], [2]])})
    assert to_arrow(frame).column("t").type == times.type
    assert frame["chunks"].tolist() == [1, 2]


def test_columns_that_pandas_took_for_its_index_are_columns():
    frame = pd.DataFrame({"age": [30, 40], "a": [1.0, 2.0]})
    named = to_frame(pa.Table.from_pandas(frame.set_index("age")))
    assert sorted(named.columns) == ["a", "age"]
    assert named["age"].tolist() == [30, 40]
    unnamed = pa.Table.from_pandas(frame.set_axis([7, 3]))
    assert unnamed.column_names[-1] == "__index_level_0__"
    assert list(to_frame(unnamed).columns) == ["age", "a"]


DAY, TIME = datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 2, 13)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([DAY, TIME], "'t' holds dates and times without a zone"),
        ([TIME, TIME.replace(tzinfo=datetime.timezone.utc)], "'t' holds times with a zone and tim"),
    ],
)
def test_dates_and_times_of_several_kinds_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        to_arrow(pd.DataFrame({"t": pd.Series([*values, None], dtype=object)}))
    assert to_arrow(pd.DataFrame({"t": [TIME, None]})).column("t").null_count == 1
