"""New rows of raw tables are encoded as those of training."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.arrow_table import ArrowTable
from nas.data.frames import to_arrow, to_frame
from nas.data.new_rows import encode_rows


def learn(frame: pd.DataFrame, **types: str):
    return ArrowTable.create(to_arrow(to_frame(frame), types), types).learn(np.arange(len(frame)))


def encode(frame: pd.DataFrame, schema) -> np.ndarray:
    (matrix,) = encode_rows(frame, schema, [[column.name for column in schema.columns]])
    return matrix


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


def test_integers_that_stand_for_times_may_have_any_width_and_missing_values():
    micros = np.arange(60) * 10**12
    schema = learn(pd.DataFrame({"t": micros}), t="datetime")
    expected = encode(pd.DataFrame({"t": micros}), schema)
    holes = encode(pd.DataFrame({"t": [*micros[:59], None]}), schema)
    np.testing.assert_array_equal(holes[:59], expected[:59])
    assert np.isfinite(holes).all()
    small = encode(pd.DataFrame({"t": np.zeros(3, np.int32)}), schema)
    np.testing.assert_array_equal(small, expected[[0, 0, 0]])
    nothing = encode(pd.DataFrame({"t": [None, None]}), schema)
    np.testing.assert_array_equal(nothing, holes[[59, 59]])
    with pytest.raises(DataError, match="'t' holds numbers with fractions, which cannot be times"):
        encode(pd.DataFrame({"t": [0.5, 1.0]}), schema)
    with pytest.raises(DataError, match="'t' has the type string"):
        encode(pd.DataFrame({"t": ["2020-01-01"]}), schema)


@pytest.mark.parametrize("trained", [[1, 2, 3], [1, None, 3]])
def test_integer_categories_are_the_same_beside_missing_values(trained):
    schema = learn(pd.DataFrame({"z": pd.Categorical(trained * 20)}))
    expected = encode(pd.DataFrame({"z": pd.Categorical([1, 3])}), schema)
    found = encode(pd.DataFrame({"z": pd.Categorical([1, 3, None])}), schema)
    np.testing.assert_array_equal(found[:2], expected)
    assert (found[2] != expected).any(axis=1).all()
    with pytest.raises(DataError, match="'z' has the type category"):
        encode(pd.DataFrame({"z": pd.Categorical(["1", "3"])}), schema)


def test_fractions_as_categories_are_the_same_in_any_rows():
    whole = learn(pd.DataFrame({"z": pd.Categorical([1.0, 2.0, None] * 20)}))
    expected = encode(pd.DataFrame({"z": pd.Categorical([1, 2])}), whole)
    found = encode(pd.DataFrame({"z": pd.Categorical([1.0, 2.0, 2.5])}), whole)
    np.testing.assert_array_equal(found[:2], expected)
    fractions = learn(pd.DataFrame({"z": pd.Categorical([1.0, 2.5, 3.0] * 20)}))
    expected = encode(pd.DataFrame({"z": pd.Categorical([1.0, 2.5])}), fractions)
    found = encode(pd.DataFrame({"z": pd.Categorical([1.0, 1.0])}), fractions)
    np.testing.assert_array_equal(found, expected[[0, 0]])
