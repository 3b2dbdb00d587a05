"""A look at a table before any work, in memory and in Spark."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cerebros_spark.core.errors import DataError
from nas.data.describe import describe_table


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = 400
    y = np.where(rng.random(rows) < 0.3, "good", "bad").astype(object)
    frame = pd.DataFrame(
        {
            "row": np.arange(rows),
            "size": rng.normal(size=rows),
            "color": rng.choice(["red", "green", "blue"], rows),
            "user id": 7 * rng.permutation(rows),
            "constant": 1.0,
            "note": [f"note {i}" for i in range(rows)],
            "verdict": np.where(y == "good", "accepted", "rejected"),
            "vector": [[float(i), 1.0] for i in range(rows)],
        }
    )
    frame.loc[frame.index[:40], "size"] = np.nan
    y[:5] = None
    return frame.assign(y=y)


def check(described) -> None:
    assert described.rows == 400
    columns = described.columns.set_index("name")
    assert list(columns.index[~columns["is_used"]]) == ["row", "user id", "constant", "note"]
    assert columns["kind"]["color"] == "categorical"
    assert columns["missing"]["size"] == pytest.approx(0.1)
    assert columns["distinct"]["color"] == 3
    assert described.unlabeled == 5
    assert [name for name, _ in described.classes] == ["bad", "good"]
    assert sum(count for _, count in described.classes) == 395
    (leak,) = described.warnings
    assert "'verdict'" in leak
    text = str(described)
    assert "400 rows, 8 columns" in text
    assert "missing in 5 rows, which a search leaves out" in text
    assert "warning: " in text


def test_columns_classes_and_leaks_of_a_frame(frame):
    check(describe_table(frame, "y"))
    check(describe_table(pa.Table.from_pandas(frame, preserve_index=False), "y"))


@pytest.mark.parametrize("collect_rows", [0, 1000])
def test_spark_tells_the_same(spark, frame, tmp_path, collect_rows):
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "table.parquet")
    df = spark.read.parquet(str(tmp_path / "table.parquet")).drop("__index_level_0__")
    check(describe_table(df, "y", collect_rows=collect_rows))


@pytest.mark.parametrize("collect_rows", [0, 1000])
def test_labels_of_numbers_and_arrays_have_no_classes(spark, collect_rows):
    df = spark.range(300).selectExpr(
        "sin(id) as x", "if(id = 7, double('NaN'), sqrt(id)) as number", "array(id, 2 * id) as both"
    )
    described = describe_table(df.drop("both"), "number", collect_rows=collect_rows)
    assert (described.classes, described.unlabeled) == ((), 1)
    described = describe_table(df.drop("number"), "both", collect_rows=collect_rows)
    assert (described.classes, described.unlabeled) == ((), 0)


def test_values_that_fit_would_refuse_give_warnings(spark):
    df = spark.range(300).selectExpr(
        "id % 7 / 2 as half", "if(id = 3, double('Infinity'), sin(id)) as x", "id % 3 as y"
    )
    described = describe_table(df, "y", {"half": "categorical"}, collect_rows=0)
    assert "'half' has categories that are numbers with fractions" in described.warnings[0]
    assert "'x' has 1 infinite values" in described.warnings[1]


def test_a_number_that_follows_the_label_is_a_leak(frame):
    rng = np.random.default_rng(1)
    target = rng.normal(size=400)
    table = pd.DataFrame({"cents": 100 * target, "x": rng.normal(size=400), "price": target})
    assert any("'cents'" in each for each in describe_table(table, "price").warnings)


def test_what_cannot_be_described_is_refused(frame):
    with pytest.raises(DataError, match="'z'"):
        describe_table(frame, "z")
    with pytest.raises(DataError, match="the data has no rows"):
        describe_table(frame.head(0), "y")
    with pytest.raises(DataError, match="no column besides the label"):
        describe_table(frame[["y"]], "y")
