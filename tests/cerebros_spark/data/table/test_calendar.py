"""Parts of dates and times."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from cerebros_spark.data.table.schema import DatetimeColumn
from tests.cerebros_spark.data.table.memory_tables import encode_one, learn


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
