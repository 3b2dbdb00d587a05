"""Splits by group and by time."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from cerebros_spark.core.errors import DataError
from nas.data.splits import SplitRule


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
