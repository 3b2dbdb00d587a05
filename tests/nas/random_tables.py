"""Random tables, for tests of properties that all tables have."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

TYPES = {
    "float": pa.float64(),
    "single": pa.float32(),
    "integer": pa.int64(),
    "small": pa.int8(),
    "decimal": pa.decimal128(20, 4),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
}

# Strings with the character NUL are refused, which tests/nas/data/test_frames.py covers.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "float": st.one_of(
        st.none(),
        st.floats(-1e285, 1e285),
        st.just(float("nan")),
        st.integers(-(2**53), 2**53).map(float),
    ),
    "single": st.one_of(st.none(), st.floats(-100, 100, width=32)),
    "integer": st.one_of(st.none(), st.integers(-(2**63) + 1, 2**63 - 1)),
    "small": st.integers(-3, 3),
    "decimal": st.one_of(
        st.none(), st.integers(-(10**15), 10**15).map(lambda each: decimal.Decimal(each) / 10**4)
    ),
    "string": st.one_of(
        st.none(), st.sampled_from(["a", "b", "", " a", "A", "NaN", "[UNK]"]), TEXTS
    ),
    "boolean": st.one_of(st.none(), st.booleans()),
    "date": st.one_of(st.none(), st.dates(datetime.date(1, 1, 1), datetime.date(9999, 1, 1))),
    "time": st.one_of(
        st.none(), st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2240, 1, 1))
    ),
}


@st.composite
def columns(draw: st.DrawFn, rows: int, kinds: Sequence[str] = tuple(TYPES)) -> pa.Array:
    """Draw a column: a few values of one type, and rows that repeat them in random order."""
    kind = draw(st.sampled_from(kinds))
    values = draw(st.lists(VALUES[kind], min_size=1, max_size=8))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return pa.array([values[i] for i in generator.integers(len(values), size=rows)], TYPES[kind])


@st.composite
def others(draw: st.DrawFn, column: pa.Array) -> pa.Array:
    """Draw a column of the same type and length, with other values."""
    kind = next(name for name, each in TYPES.items() if each == column.type)
    return draw(columns(len(column), (kind,)))


def to_input(values: pa.ChunkedArray, dtype: str) -> np.ndarray:
    """Convert an Arrow column to an input of an exported model, as its documentation says.

    ``dtype`` is that of the model's input.
    """
    if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us")).cast(pa.int64())
    rows = values.to_pylist()
    if dtype == "string":
        return np.array([row or "" for row in rows], dtype=object)
    if dtype == "int64":
        return np.array([-(2**63) if row is None else row for row in rows], dtype=np.int64)
    return np.array([math.nan if row is None else float(row) for row in rows])
