from __future__ import annotations

import pyarrow as pa
import pytest

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.string_pack import join_sql, split_strings

ROWS = [
    ("a", "", "é🙂"),
    ("", "", ""),
    ("\u0001", "\u0002", "\u0001\u0002a\u0002b"),
    (" x ", "\n", "'"),
    ("\u0002\u0002", "b\u0001", "\\u0001"),
]


@pytest.fixture(scope="module")
def joined(spark):
    frame = spark.createDataFrame(ROWS, "a string, b string, c string")
    return frame.selectExpr(f"{join_sql(['a', 'b', 'c'])} as pack").coalesce(1)


def test_strings_are_split_as_they_were_joined(joined):
    pack = pa.array([row["pack"] for row in joined.collect()])
    columns = split_strings(pack, 3)
    assert [each.to_pylist() for each in columns] == [
        [value or None for value in column] for column in zip(*ROWS, strict=True)
    ]


def test_strings_that_are_no_valid_utf_8_are_refused():
    with pytest.raises(DataError, match="holds a string that cannot be read"):
        split_strings(pa.array([b"a\x01\xe9"]), 2)


def test_one_column_and_no_rows():
    assert [each.to_pylist() for each in split_strings(pa.array([b"", b"x"]), 1)] == [[None, "x"]]
    assert [len(each) for each in split_strings(pa.array([], pa.binary()), 2)] == [0, 0]
