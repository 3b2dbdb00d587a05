"""Raw tables in Spark are learned and encoded as those in memory are."""

from __future__ import annotations

import datetime
import decimal

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F  # noqa: N812

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.prepare_spark import prepare_spark
from cerebros_spark.data.shards import open_shard
from cerebros_spark.data.spark_columns import vectors_to_arrays
from cerebros_spark.data.table.arrow_table import ArrowTable
from cerebros_spark.data.table.batch import RawBatch
from cerebros_spark.data.table.encode_matrix import encode_matrix
from cerebros_spark.data.table.spark_labels import drop_unlabeled, flatten_structs, index_classes
from cerebros_spark.data.table.spark_table import RawFeatures, SparkTable
from cerebros_spark.storage.local import LocalStore
from tests.nas.tables import raw_table

FEATURES = [name for name in raw_table(10).columns if name not in ("y", "row")]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    frame = raw_table(400)
    frame["day"] = pd.to_datetime(frame["day"])
    frame["kind of thing"] = frame["kind of thing"].astype(str)
    frame["vector"] = frame["vector"].map(list)
    return frame


@pytest.fixture(scope="module")
def df(spark, frame, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("raw") / "table.parquet")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pa.parquet.write_table(table, path, coerce_timestamps="us")
    return spark.read.parquet(path)


def without_types(column):
    zone = {"zone": ""} if hasattr(column, "zone") else {}
    return msgspec.structs.replace(column, type="", **zone)


def test_spark_and_memory_learn_the_same_schema(df, frame):
    table = SparkTable.create(df, FEATURES)
    packed = df.selectExpr(*table.select_packs(), "false as validates").repartition(5)
    learned = table.learn(packed, ())
    expected = ArrowTable.create(pa.Table.from_pandas(frame[FEATURES], preserve_index=False)).learn(
        np.arange(len(frame))
    )
    assert [c.name for c in learned.columns] == [c.name for c in expected.columns]
    assert [c.name for c in learned.left_out] == ["note", "constant"]
    for one, other in zip(learned.columns, expected.columns, strict=True):
        one, other = without_types(one), without_types(other)
        for name in ("center", "scale"):
            if hasattr(one, name):
                np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6)
                one, other = (msgspec.structs.replace(e, **{name: ()}) for e in (one, other))
        assert one == other


def test_spark_and_memory_hash_the_same_categories(spark, tmp_path):
    ids = [*range(10_000), *range(10_600)]
    table = pa.table({"user": [f"user {i}" for i in ids], "number": ids})
    pa.parquet.write_table(table, tmp_path / "ids.parquet")
    types = {"user": "categorical", "number": "categorical"}
    expected = ArrowTable.create(table, types).learn(np.arange(len(ids)))
    df = spark.read.parquet(str(tmp_path / "ids.parquet"))
    spark_table = SparkTable.create(df, list(types), types)
    packed = df.selectExpr(*spark_table.select_packs(), "false as validates")
    learned = spark_table.learn(packed, ())
    assert all(column.buckets > 40 for column in learned.columns)
    assert [*map(without_types, learned.columns)] == [*map(without_types, expected.columns)]


def test_spark_shards_hold_what_memory_encodes(spark, df, frame, tmp_path):
    store = LocalStore(tmp_path)
    indexed, classes = index_classes(df, "y")
    table = SparkTable.create(indexed, FEATURES)
    manifest = prepare_spark(
        indexed,
        store,
        feature_columns=FEATURES,
        label_columns=["y"],
        partitions=2,
        table=table,
        classes=[classes],
        seed=0,
    )
    assert manifest.table.labels == (classes,)
    schema = manifest.table
    source = ArrowTable.create(pa.Table.from_pandas(frame[FEATURES], preserve_index=False))
    expected = encode_matrix(schema, source.encode(schema.columns))
    layout = default_layout(manifest, feature_columns=FEATURES)
    read = [
        next(open_shard(store, shard, manifest, layout, 2**30).chunks(8, None)).x[0]
        for shard in (*manifest.train, *manifest.validation)
    ]
    found = np.concatenate(read)
    order = [np.lexsort(each.T) for each in (found, expected)]
    np.testing.assert_allclose(found[order[0]], expected[order[1]], atol=1e-6)
    again = prepare_spark(
        indexed.repartition(3),
        store,
        feature_columns=FEATURES,
        label_columns=["y"],
        partitions=2,
        table=table,
        classes=[classes],
        seed=0,
    )
    assert again == manifest


def test_intervals_are_the_seconds_of_durations_in_arrow(spark):
    values = [90061.5, -90061.5, 0.000001, -3.0]
    rows = [(datetime.timedelta(seconds=value),) for value in values] + [(None,)]
    df = spark.createDataFrame(rows, "lasts interval day to second")
    batch, _ = encode(df, ["lasts"])
    np.testing.assert_allclose(batch.numbers[:, 0], [*values, np.nan], rtol=1e-12)
    arrow = pa.table({"lasts": pa.array([row[0] for row in rows], pa.duration("us"))})
    (expected,) = ArrowTable.create(arrow).batches(ArrowTable.create(arrow).columns)
    np.testing.assert_array_equal(batch.numbers, expected.numbers)
    with pytest.raises(ArgumentError, match="'lasts' has the type interval year"):
        SparkTable.create(df.selectExpr("interval '2' year as lasts"), ["lasts"])


def encode(df, names) -> tuple[RawBatch, list]:
    table = SparkTable.create(df, names)
    rows = df.selectExpr(*table.select_packs()).toPandas()
    columns = {name: rows[name].to_numpy() for name in table.names}
    return table.batch_from_rows(columns, len(rows)), list(table.columns)


def test_every_type_is_passed_on_without_loss(spark):
    schema = (
        "byte tinyint, big bigint, exact decimal(38,2), real float, text string, yes boolean, "
        "day date, at timestamp, local timestamp_ntz, list array<int>"
    )
    at = datetime.datetime(1965, 3, 4, 5, 6, 7, 890123)
    rows = [
        (1, 2**63 - 1, decimal.Decimal("1e30"), 0.5, "ä", True, at.date(), at, at, [1, None]),
        (None,) * 10,
        (
            -3,
            -(2**63) + 1,
            decimal.Decimal("-0.01"),
            None,
            "",
            False,
            datetime.date(1, 1, 1),
            None,
            None,
            [3, 4],
        ),
    ]
    df = spark.createDataFrame(rows, schema)
    batch, columns = encode(df, df.columns)
    assert [c.kind for c in columns] == [
        *("numeric",) * 4,
        "categorical",
        "boolean",
        "datetime",
        "datetime",
        "datetime",
        "vector",
    ]
    micros = int(np.datetime64(at, "us").astype(int))
    day = int(np.datetime64(at.date(), "us").astype(int))
    first = int(np.datetime64("0001-01-01", "us").astype(int))
    np.testing.assert_array_equal(batch.numbers[:, 0], [1e30, np.nan, -0.01])
    np.testing.assert_array_equal(batch.numbers[:, 2:], [[1, np.nan], [np.nan] * 2, [3, 4]])
    assert batch.integers[:, 1].tolist() == [2**63 - 1, 0, -(2**63) + 1]
    assert batch.integers[:, 3].tolist() == [day, 0, first]
    assert batch.integers[0, 4:].tolist() == [micros, micros]
    assert batch.missing[:, 4].tolist() == [False, True, True]
    assert batch.strings[0].to_pylist() == ["ä", None, None]


def test_times_are_those_that_the_session_shows(spark):
    df = spark.sql("select timestamp'2024-06-01 12:30:00 UTC' as at from range(3)")
    zone = spark.conf.get("spark.sql.session.timeZone")
    try:
        spark.conf.set("spark.sql.session.timeZone", "Asia/Kolkata")
        table = SparkTable.create(df, ["at"])
        there = df.selectExpr(*table.select_packs()).head()["cerebros_integers"][0]
        assert there == int(np.datetime64("2024-06-01T18:00", "us").astype(int))
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        # A schema keeps the zone of training.
        schema = ArrowTable.create(
            pa.table({"at": pa.array([1, 10**15], pa.timestamp("us"))})
        ).learn(np.arange(2))
        column = msgspec.structs.replace(schema.columns[0], zone="Asia/Kolkata")
        later = SparkTable.for_schema(df, [column])
        assert df.selectExpr(*later.select_packs()).head()["cerebros_integers"][0] == there
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone)


def test_structs_become_columns(spark):
    df = spark.sql("select struct(1 as a, struct('x' as `b c`) as inner) as s, 2 as t")
    flat, names = flatten_structs(df, ["s", "t"])
    assert names == ["s.a", "s.inner.b c", "t"]
    assert flat.select("`s.a`", "`s.inner.b c`").head() == (1, "x")
    with pytest.raises(DataError, match=r"'s' has a field that would be called 's\.a'"):
        flatten_structs(df.withColumn("S.a", F.lit(1)), ["s", "S.a"])
    again, names = flatten_structs(flat, ["s"])  # a struct of two inputs
    assert names == ["s.a", "s.inner.b c"]
    assert again.columns == flat.columns


def test_integers_of_any_name_may_stand_for_times(spark):
    column = (
        ArrowTable.create(pa.table({"t": np.arange(60) * 10**12}), {"t": "datetime"})
        .learn(np.arange(60))
        .columns[0]
    )
    df = spark.sql("select id * 1000000 as t, cast(id as int) as small from range(3)")
    assert SparkTable.for_schema(df, [column]).columns[0].kind == "datetime"
    with pytest.raises(DataError, match="'t' has the type string, but was int64 in training"):
        SparkTable.for_schema(df.selectExpr("cast(t as string) as t"), [column])


def test_raw_columns_count_for_the_number_of_tasks(spark):
    df = spark.sql("select 1 as a, 'x' as b, 2.5d as c, array(1, 2, 3) as v, 'y' as ignored")
    table = SparkTable.create(df, df.columns, {"ignored": "ignore"})
    assert RawFeatures(table).row_bytes == 8 + 16 + 8 + 3 * 8
    assert RawFeatures(None).row_bytes == 0


def test_ml_vectors_dense_and_sparse_are_numbers(spark):
    rows = [(0, Vectors.dense(1.0, 2.0)), (1, Vectors.sparse(2, {1: 5.0}))]
    df = spark.createDataFrame(rows, ["i", "v"])
    table = SparkTable.create(df, ["v"])
    assert table.columns[0].width == 2
    rows = vectors_to_arrays(df, ["v"]).selectExpr(*table.select_packs()).collect()
    assert [list(row["cerebros_vector0"]) for row in rows] == [[1, 2], [0, 5]]


def test_arrays_of_unequal_length_are_refused(spark):
    df = spark.sql("select array(1, 2) as v union all select array(1, 2, 3)").coalesce(1)
    table = SparkTable.create(df, ["v"])
    with pytest.raises(DataError, match="'v' has arrays of unequal length"):
        table.learn(df.selectExpr(*table.select_packs(), "false as validates"), ())


def test_unsupported_types_are_named_together(spark):
    sql = ["map('a', 1) as m", "array('x') as a", "binary('x') as b", "int(id % 3) as n"]
    df = spark.range(30).selectExpr(*sql)
    with pytest.raises(ArgumentError, match=r"'m' has the type map.*'a' has .*'b' has"):
        SparkTable.create(df, df.columns)
    ignored = {"m": "ignore", "a": "ignore", "b": "ignore"}
    table = SparkTable.create(df, df.columns, {**ignored, "n": "categorical"})
    schema = table.learn(df.selectExpr(*table.select_packs(), "false as validates"), ())
    assert [each.name for each in schema.left_out] == ["m", "a", "b"]
    assert schema.columns[0].values == (0, 1, 2)


@pytest.mark.parametrize(
    ("sql", "classes"),
    [
        ("if(id % 2 = 0, 'no', 'yes')", ("no", "yes")),
        ("id % 2 = 0", (False, True)),
        ("cast(id % 3 as int) * 5 - 5", (-5, 0, 5)),
        ("cast(id % 3 as double)", (0, 1, 2)),
        ("date_add(date'2024-01-01', cast(id % 2 as int))", ("2024-01-01", "2024-01-02")),
    ],
)
def test_classes_are_indexed(spark, sql, classes):
    df = spark.range(12).selectExpr("id", f"{sql} as y")
    indexed, found = index_classes(df, "y")
    assert found.values == classes
    assert sorted({row["y"] for row in indexed.collect()}) == list(range(len(classes)))


def test_rows_without_a_class_are_left_out(spark, caplog):
    df = spark.sql("select if(id < 3, null, if(id < 6, 'a', 'b')) as y from range(10)")
    indexed, found = index_classes(df, "y")
    assert found.values == ("a", "b")
    assert sorted(row["y"] for row in indexed.collect()) == [0] * 3 + [1] * 4
    assert "3 of 10 rows have no label" in caplog.text


def test_rows_without_a_label_are_left_out(spark, caplog):
    df = spark.sql("select if(id < 3, null, double(id)) as y from range(10)")
    df = df.withColumn("y", F.when(F.col("y") == 9, F.lit(float("nan"))).otherwise(F.col("y")))
    assert drop_unlabeled(df, ["y"]).count() == 6
    assert "4 of 10 rows have no label" in caplog.text


def test_numbers_without_fractions_are_categories_if_the_user_says_so(spark):
    rows = [(float(i % 3), decimal.Decimal(i % 2)) for i in range(30)]
    df = spark.createDataFrame([*rows, (None, None)], "x double, y decimal(12,2)").coalesce(1)
    table = SparkTable.create(df, ["x", "y"], {"x": "categorical", "y": "boolean"})
    packed = df.selectExpr(*table.select_packs(), "false as validates")
    columns = table.learn(packed, ()).columns
    assert [(column.values, column.missing) for column in columns] == [((0, 1, 2), 1), ((0, 1), 1)]

    df = df.selectExpr("x + 0.5 as x", "y / 4 as y", "x as z")
    table = SparkTable.create(df, ["x", "y", "z"], {"x": "categorical", "y": "boolean"})
    packed = df.selectExpr(*table.select_packs(), "false as validates")
    with pytest.raises(DataError, match=r"column .x. holds numbers with fractions.*column .y. "):
        table.learn(packed, ())


def test_categories_may_be_fractions_that_are_whole(spark):
    table = pa.table({"zip": np.arange(60) % 3})
    column = ArrowTable.create(table, {"zip": "categorical"}).learn(np.arange(60)).columns[0]
    df = spark.createDataFrame([(2.0,), (0.5,), (float("nan"),), (None,), (1e30,)], "zip double")
    later = SparkTable.for_schema(df, [column])
    packs = [row["cerebros_integers"][0] for row in df.selectExpr(*later.select_packs()).collect()]
    missing = np.iinfo(np.int64).min
    assert packs == [2, -(2**62), missing, missing, -(2**62)]
    decimals = df.selectExpr("cast(zip as decimal(20, 1)) as zip").limit(2)
    later = SparkTable.for_schema(decimals, [column])
    packs = [
        row["cerebros_integers"][0] for row in decimals.selectExpr(*later.select_packs()).collect()
    ]
    assert packs == [2, -(2**62)]
    intervals = spark.sql("select interval '2' second as zip")
    with pytest.raises(DataError, match="'zip' has the type interval second, but was int64"):
        SparkTable.for_schema(intervals, [column])
