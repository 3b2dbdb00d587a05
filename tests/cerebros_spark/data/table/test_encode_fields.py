"""Raw values become fields and a matrix."""

from __future__ import annotations

import decimal

import numpy as np
import pyarrow as pa
import pytest

from cerebros_spark.data.table.schema import CategoryColumn, NumberColumn
from tests.cerebros_spark.data.table.memory_tables import encode_one


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


def test_booleans_are_signed_with_missing_apart():
    column, field, matrix = encode_one([True, False, None, True, False])
    assert isinstance(column, CategoryColumn)
    assert field.tolist() == [3, 2, 0, 3, 2]
    assert matrix.tolist() == [[0, 1], [0, -1], [1, 0], [0, 1], [0, -1]]


def test_vectors_are_scaled_by_element():
    rows = np.random.default_rng(0).normal([0, 100], [1, 5], (400, 2))
    column, field, matrix = encode_one(pa.array(list(rows)))
    assert column.width == 2
    assert column.center[1] == pytest.approx(100, abs=1)
    assert field.shape == matrix.shape == (400, 2)
