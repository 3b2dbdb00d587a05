from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data import checks, parquet_writer
from cerebros_spark.data.float32 import Variation, check_variation
from cerebros_spark.data.manifest import Column, Layout
from cerebros_spark.data.splits import split_sizes, validation_size
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store

GOOD = {
    "feature_columns": ["a"],
    "label_columns": ["y"],
    "validation": 0.2,
    "partitions": 2,
    "seed": 0,
}


@given(st.integers(0, 10**12), st.integers(1, 2000))
def test_split_sizes_are_equal_within_one_row(rows, parts):
    sizes = split_sizes(rows, parts)
    assert len(sizes) == parts
    assert sum(sizes) == rows
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(0, 500), st.integers(1, 20))
def test_split_sizes_are_those_of_dealt_rows(rows, parts):
    assert split_sizes(rows, parts) == tuple(len(range(rows)[part::parts]) for part in range(parts))


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_validation_size_is_the_nearest(rows, fraction):
    assert abs(validation_size(rows, fraction) - rows * fraction) <= 0.5 + 1e-6 * rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_columns": []}, "feature_columns is empty"),
        ({"label_columns": [[]]}, "label_columns is empty"),
        ({"feature_columns": "a"}, r"write \['a'\]"),
        ({"feature_columns": [3]}, "must hold names"),
        ({"feature_columns": [["a", 3]]}, "must hold names, but got 3"),
        ({"feature_columns": ["a", "b", "a"]}, "the column 'a' 2 times"),
        ({"feature_columns": [["a"], ["a", "b"]]}, "the column 'a' 2 times"),
        ({"feature_columns": ["a", "y"]}, "'y' is a label and a feature"),
        ({"validation": "a"}, "validation column 'a' cannot be a feature"),
        ({"validation": "y"}, "validation column 'y' cannot be a label"),
        ({"validation": 0}, "between 0 and 1.*got 0"),
        ({"validation": 1.0}, "between 0 and 1.*got 1.0"),
        ({"validation": -0.1}, "between 0 and 1"),
        ({"validation": float("nan")}, "between 0 and 1"),
        ({"validation": True}, "between 0 and 1.*got True"),
        ({"validation": None}, "between 0 and 1.*got None"),
        ({"partitions": 0}, "partitions must be.*got 0"),
        ({"partitions": 2.5}, "partitions must be.*got 2.5"),
        ({"partitions": True}, "partitions must be.*got True"),
        ({"seed": None}, "seed must be"),
    ],
)
def test_a_bad_argument_is_named(change, message):
    with pytest.raises(ArgumentError, match=message):
        checks.check_request(["a", "b", "y", "v"], **{**GOOD, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_columns": ["ab"]}, "no column 'ab'.*There are: 'aa', 'b', 'y'"),
        ({"feature_columns": ["aaa"]}, "Did you mean 'aa'"),
        ({"label_columns": ["Y"]}, "no column 'Y'"),
        ({"validation": "test"}, "no column 'test'"),
    ],
)
def test_a_missing_column_is_named_with_those_there_are(change, message):
    with pytest.raises(DataError, match=message):
        checks.check_request(["aa", "b", "y"], **{**GOOD, "feature_columns": ["b"], **change})


def test_a_column_that_exists_twice():
    with pytest.raises(DataError, match="2 columns 'a'"):
        checks.check_request(["a", "a", "y"], **GOOD)


def test_groups_are_flattened():
    request = checks.check_request(
        ["a", "b", "c", "y"], **{**GOOD, "feature_columns": [["b", "a"], "c"]}
    )
    assert request.columns == ("b", "a", "c", "y")


def test_all_problems_are_reported_at_once():
    counts = [
        checks.ColumnCounts("a", nulls=1234),
        checks.ColumnCounts("b", nans=2, lengths=(1, 3)),
    ]
    with pytest.raises(DataError) as raised:
        checks.check_counts(5000, counts)
    for part in ("'a' has nulls in 1,234 of 5,000 rows", "'b' has NaN in 2", "from 1 to 3"):
        assert part in str(raised.value)
    with pytest.raises(DataError, match="; and 15 more"):
        checks.check_counts(9, [checks.ColumnCounts(f"c{i}", nulls=1) for i in range(25)])


def test_stored_names_can_be_read_back():
    names = ("plain", "sepal length (cm)", "class", "_x", "größe", "column_1", "2")
    stored = checks.stored_names(names)
    assert stored[0] == "plain"
    assert stored[5] == "column_1"
    assert len({name.lower() for name in stored}) == len(names)
    assert all(name.isidentifier() and name.isascii() for name in stored)


def test_rows_per_file_bound_the_decoded_size():
    wide = [Column("a", "float32", (1_000_000,), "feature")]
    huge = [Column("a", "float32", (100_000_000,), "feature")]
    narrow = [Column("a", "int64", (), "feature")]
    assert parquet_writer.rows_per_file(wide) * 4_000_000 <= parquet_writer.FILE_BYTES
    assert parquet_writer.rows_per_file(huge) == 1
    assert parquet_writer.rows_per_file(narrow) == parquet_writer.FILE_ROWS


def test_the_fingerprint_depends_on_all_that_decides_the_data():
    request = checks.check_request(["a", "b", "y"], **GOOD)
    columns = [Column("a", "float32", (), "feature"), Column("y", "int32", (), "label")]
    fingerprints = {checks.fingerprint(("spark", 1, 2, 3), columns, request)}
    for change in ({"validation": 0.3}, {"partitions": 3}, {"seed": 1}):
        other = checks.check_request(["a", "b", "y"], **{**GOOD, **change})
        fingerprints.add(checks.fingerprint(("spark", 1, 2, 3), columns, other))
    fingerprints.add(checks.fingerprint(("spark", 1, 2, 4), columns, request))
    fingerprints.add(checks.fingerprint(("spark", 1, 2, 3), columns[::-1], request))
    assert len(fingerprints) == 6
    with_statistics = [Column("a", "float32", (), "feature", (1.0,), (2.0,)), columns[1]]
    assert checks.fingerprint(("spark", 1, 2, 3), with_statistics, request) in fingerprints


@pytest.mark.parametrize("sign", "#?")
def test_a_path_that_urls_cut_is_refused(tmp_path, sign):
    with pytest.raises(ArgumentError, match="cannot store data at"):
        checks.check_address(LocalStore(tmp_path / f"a{sign}b"))


def test_layout_columns():
    assert Layout((("a",), ("b", "c")), (("y",),), ((1,), (2,))).columns == ("a", "b", "c", "y")
    assert isinstance(Store.create("memory://x"), Store)


@pytest.mark.parametrize(
    ("least", "greatest", "is_integral", "is_lost"),
    [
        (1_700_000_000, 1_700_000_059, True, True),  # Unix seconds within a minute
        (1_700_000_000, 1_700_000_059, False, True),
        (1_700_000_000, 1_731_536_000, False, False),  # within a year
        (1e9 - 3, 1e9 + 3, False, True),
        (2**26, 2**26 + 79, True, True),  # ids one after the other
        (2**60, 2**60 + 59, True, True),
        (2023, 2024, False, False),
        (10_000_000, 10_000_001, True, False),  # float32 has all of them
        (0.999, 1.0, False, False),
        (1e9, 1e9, False, False),
        (1 / 3, 1 / 3 + 1e-16, False, False),  # rounding
        (-1e9, 1e9, False, False),
        (0.0, 0.0, True, False),
    ],
)
def test_float32_is_too_coarse(least, greatest, is_integral, is_lost):
    extent = greatest - least
    assert Variation(least, extent, max(-least, greatest), is_integral).is_lost == is_lost


@pytest.mark.parametrize(
    ("mean", "variance", "is_lost"),
    [(1.7e9, 300.0, True), (2.0**60, 300.0, True), (2024.0, 1e-5, False), (1e7, 8.0, False)],
)
def test_integers_that_a_network_takes_as_float32(mean, variance, is_lost):
    column = Column("id", "int64", (), "feature", mean=(mean,), variance=(variance,))
    if not is_lost:
        check_variation([column])
        return
    with pytest.raises(DataError, match=r"the column 'id' varies by about .* Subtract its mean"):
        check_variation([column])
