from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix

from cerebros_spark.core.errors import ArgumentError, DataError
from nas.data.values import convert_values, has_fractions, is_array, to_array

ARROW = pd.ArrowDtype


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2, 3], np.array([1, 2, 3])),
        ([[1.5, 2], [3, 4]], np.array([[1.5, 2], [3, 4]])),
        (((1, 2), (3, 4)), np.array([[1, 2], [3, 4]])),
        (pd.Series([1, 2], dtype="Int64"), np.array([1, 2])),
        (pd.Series([1, 2], dtype="UInt8"), np.array([1, 2], "uint64")),
        (pd.Series([True, False], dtype="boolean"), np.array([True, False])),
        (pd.Series([0.5, 2], dtype="Float32"), np.array([0.5, 2])),
        (pd.Series([2**60 + 1, 1], dtype=ARROW(pa.int64())), np.array([2**60 + 1, 1])),
        (pd.Series([Decimal("0.25"), 1], dtype=ARROW(pa.decimal128(5, 2))), np.array([0.25, 1.0])),
        (pd.Series([5, 7], dtype="category"), np.array([5, 7])),
        (np.array([Decimal("0.25"), 3], dtype=object), np.array([0.25, 3.0])),
        (np.array([2**63, 1], dtype=object), np.array([2**63, 1], "uint64")),
        (np.array([True, np.False_], dtype=object), np.array([True, False])),
        (pd.Series([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]])),
        (pd.Series([np.ones(2), np.zeros(2)]), np.array([[1.0, 1], [0, 0]])),
    ],
)
def test_numbers_of_any_kind_become_arrays(value, expected):
    array = to_array(value, "x")
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype
    assert not np.ma.isMaskedArray(array)


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (pd.Series([1, None, 3], dtype="Int64"), [1]),
        (pd.Series([True, None], dtype="boolean"), [1]),
        (pd.Series([0.5, None], dtype=ARROW(pa.float64())), [1]),
        (np.array([None, 1, 2], dtype=object), [0]),
        (pd.Series([None, [1, 2]]), [0]),
        (pd.Series([[1, None], [1, 2]]), [0]),
    ],
)
def test_missing_values_are_masked_and_refused_by_name(value, rows):
    array = to_array(value, "x")
    mask = np.ma.getmaskarray(array).reshape(len(array), -1).any(axis=1)
    assert np.flatnonzero(mask).tolist() == rows
    with pytest.raises(DataError, match=f"the column 'age' holds {len(rows)} nulls"):
        convert_values(array, "float32", "age")


def test_other_values_keep_their_type():
    assert to_array(["a", "b"], "x").dtype.kind == "U"
    assert to_array(pd.Series(["a", None]), "x").dtype == object
    assert to_array(pd.Series(pd.to_datetime(["2020-01-01"])), "x").dtype.kind == "M"
    with pytest.raises(DataError, match="'city' has the type <U1, but must hold numbers"):
        convert_values(to_array(["a", "b"], "x"), "float32", "city")


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ([[1, 2], [3]], DataError, "x holds rows of unequal length"),
        (pd.Series([[1, 2], [3]]), DataError, "x holds rows of unequal length"),
        ([2**70, 1], DataError, "x holds 1180591620717411303424, which is not a 64-bit integer"),
        (csr_matrix(np.eye(3)), ArgumentError, r"x is a sparse matrix; pass an array \(x.toarray"),
    ],
)
def test_values_that_are_no_array_are_refused(value, kind, message):
    with pytest.raises(kind, match=message):
        to_array(value, "x")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([1.0, -2.0]), "int32"),
        (np.array([True, False]), "int64"),
        (np.array([2**63 - 1], "uint64"), "int64"),
        (np.array([0.5, np.nan]), "float32"),
        (np.arange(3), "float32"),
    ],
)
def test_values_within_the_range_are_converted(values, dtype):
    array = convert_values(values, dtype, "x")
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        (np.array([1.0, 1.9, 2.5]), "int32", "'x' holds 1.9, 2.5 in 2 places, but takes integers"),
        (np.array([np.nan]), "int64", "'x' holds 1 nulls or NaN, but takes integers"),
        (np.array([2**40]), "int32", "'x' holds values from 1099511627776 .* range of int32"),
        (np.array([2**63], "uint64"), "int64", "beyond the range of int64"),
        (np.array([1e39, 1.0]), "float32", "'x' holds infinite .*too large for float32.* in 1"),
        (np.array([np.inf]), "float32", "'x' holds infinite values"),
    ],
)
def test_values_that_would_be_lost_are_refused_by_name(values, dtype, message):
    with pytest.raises(DataError, match=message):
        convert_values(values, dtype, "x")


def test_fractions():
    assert has_fractions(np.array([1.0, 1.5]))
    assert not has_fractions(np.array([1.0, 2.0]))
    assert not has_fractions(np.array([1, 2]))


def test_lists_of_numbers_are_one_array_and_lists_of_arrays_several():
    assert is_array([[1, 2], [3, 4]])
    assert is_array([1, 2])
    assert is_array(np.ones((2, 2)))
    assert not is_array([np.ones(2), np.ones(2)])
    assert not is_array([pd.Series([1, 2])])
