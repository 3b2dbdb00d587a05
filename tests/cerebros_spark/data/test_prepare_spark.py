from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from cerebros_spark.compat.petastorm.loading import load_petastorm
from cerebros_spark.core.errors import ArgumentError, DataError, StoreError
from cerebros_spark.data import catalog, parquet_writer
from cerebros_spark.data import prepare_spark as prepare_module
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import Manifest, manifest_key
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.data.prepare_spark import prepare_spark
from cerebros_spark.data.shards import open_shard
from cerebros_spark.storage.local import LocalStore

ROWS = 103
COLUMNS = {"feature_columns": ["number", "array"], "label_columns": ["label"]}


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": np.arange(ROWS),
            "number": rng.normal(1000, 1, ROWS),
            "array": [row.tolist() for row in rng.normal(size=(ROWS, 3))],
            "label": rng.integers(0, 3, ROWS),
            "late": rng.random(ROWS) < 0.3,
        }
    )


@pytest.fixture(scope="module")
def frame(spark, data):
    return spark.createDataFrame(data).cache()


@pytest.fixture(scope="module")
def prepared(frame, tmp_path_factory):
    store = LocalStore(tmp_path_factory.mktemp("a store [x] {y}"))
    manifest = prepare_spark(
        frame, store, feature_columns=["id", "number", "array"], label_columns=["label"],
        partitions=3,
    )  # fmt: skip
    return store, manifest


def read(store: LocalStore, shard) -> pd.DataFrame:
    files = sorted(Path(store.address(shard.key).removeprefix("file://")).glob("*.parquet"))
    return pd.concat([pd.read_parquet(file, partitioning=None) for file in files])


def test_every_row_is_in_one_shard_and_sizes_are_equal(prepared, data):
    store, manifest = prepared
    assert [shard.rows for shard in manifest.train] == [28, 27, 27]
    assert [shard.rows for shard in manifest.validation] == [7, 7, 7]
    shards = [read(store, shard) for shard in (*manifest.train, *manifest.validation)]
    assert [len(s) for s in shards] == [s.rows for s in (*manifest.train, *manifest.validation)]
    rows = pd.concat(shards).sort_values("id")
    assert rows["id"].tolist() == list(range(ROWS))
    np.testing.assert_array_equal(rows["number"], data["number"].astype("float32"))
    np.testing.assert_array_equal(
        np.stack(rows["array"]), np.array(data["array"].tolist(), "float32")
    )
    assert rows["number"].dtype == "float32"
    assert rows["id"].dtype == "int64"
    assert pd.concat(shards)["id"].tolist() != sorted(rows["id"])


def test_petastorm_opens_a_shard(prepared):
    store, manifest = prepared
    shard = manifest.train[0]
    make_batch_reader = load_petastorm().make_batch_reader
    with make_batch_reader(store.address(shard.key), reader_pool_type="dummy") as reader:
        batches = list(reader)
    assert sum(len(batch.id) for batch in batches) == shard.rows
    assert batches[0].array.shape == (shard.rows, 3)
    assert batches[0].array.dtype == np.float32


def test_statistics_are_those_of_the_training_rows(prepared):
    store, manifest = prepared
    train = pd.concat([read(store, shard) for shard in manifest.train])
    number, array = manifest.column("number"), manifest.column("array")
    values = train["number"].to_numpy(np.float64)
    assert number.mean == pytest.approx([values.mean()], rel=1e-12)
    assert number.variance == pytest.approx([values.var()], rel=1e-9)
    values = np.stack(train["array"]).astype(np.float64)
    assert array.mean == pytest.approx(values.mean(axis=0).tolist(), rel=1e-12, abs=1e-14)
    assert array.variance == pytest.approx(values.var(axis=0).tolist(), rel=1e-9)
    assert array.shape == (3,)
    assert manifest.column("label").classes == (0, 1, 2)
    labels = train["label"].to_numpy(np.float64)
    assert manifest.column("label").mean == pytest.approx([labels.mean()], rel=1e-12)
    assert number.classes is None


def test_the_manifest_is_in_the_store_and_nothing_else(prepared):
    store, manifest = prepared
    assert Manifest.from_json(store.read(manifest_key(manifest.fingerprint)).decode()) == manifest
    for key in store.list("data"):
        assert key.endswith((".parquet", ".crc", "manifest.json"))


def test_partitioning_and_types_of_the_source_do_not_matter(frame, prepared, tmp_path, caplog):
    store, manifest = prepared
    other = frame.repartition(7, "number").sortWithinPartitions("id")
    arguments = {"feature_columns": ["id", "number", "array"], "label_columns": ["label"]}
    with caplog.at_level(logging.INFO, "cerebros_spark"):
        again = prepare_spark(other, store, **arguments, partitions=3)
    assert again == manifest
    assert "reusing prepared data" in caplog.text
    # Written a second time, elsewhere, it is the same to the byte.
    elsewhere = LocalStore(tmp_path)
    again = prepare_spark(other, elsewhere, **arguments, partitions=3)
    assert again.fingerprint == manifest.fingerprint
    for first, second in zip(
        (*manifest.train, *manifest.validation), (*again.train, *again.validation), strict=True
    ):
        pd.testing.assert_frame_equal(read(store, first), read(elsewhere, second))


def test_many_tasks_write_the_same_as_one(frame, prepared, tmp_path, monkeypatch):
    _, manifest = prepared
    monkeypatch.setattr(prepare_module, "TASK_BYTES", 256)
    elsewhere = LocalStore(tmp_path)
    again = prepare_spark(
        frame.repartition(4), elsewhere, feature_columns=["id", "number", "array"],
        label_columns=["label"], partitions=3,
    )  # fmt: skip
    assert again.fingerprint == manifest.fingerprint
    for first, second in zip(
        (*manifest.train, *manifest.validation), (*again.train, *again.validation), strict=True
    ):
        assert [file.sha256 for file in first.files] == [file.sha256 for file in second.files]


def test_data_read_in_another_session_is_the_same(spark, frame, prepared, tmp_path):
    store, manifest = prepared
    keys = store.list("data")
    frame.write.parquet(f"file://{tmp_path}/source")
    source = spark.newSession().read.parquet(f"file://{tmp_path}/source")
    arguments = {"feature_columns": ["id", "number", "array"], "label_columns": ["label"]}
    assert prepare_spark(source, store, **arguments, partitions=3) == manifest
    assert store.list("data") == keys


def test_other_content_is_other_data(frame, prepared, monkeypatch):
    store, _ = prepared

    class StopError(Exception):
        pass

    def stop(store, name, inspect):
        raise StopError(name)

    monkeypatch.setattr(catalog, "find", stop)
    names = set()
    changed = F.when(F.col("id") == 5, F.lit(0.5)).otherwise(F.col("number"))
    for df, extra in [
        (frame, {}),
        (frame, {"seed": 1}),
        (frame, {"partitions": 4}),
        (frame, {"validation": 0.5}),
        (frame, {"validation": "late"}),
        (frame, {"label_columns": ["label", "number"], "feature_columns": ["array"]}),
        (frame.withColumn("number", changed), {}),
        (frame.where("id <> 5"), {}),
        (frame.union(frame.where("id = 5")), {}),
        (frame.union(frame.where("id = 5")).union(frame.where("id = 5")), {}),
        (frame.withColumn("label", F.col("label").cast("int")), {}),
    ]:
        with pytest.raises(StopError) as stopped:
            prepare_spark(df, store, **{**COLUMNS, "partitions": 3, **extra})
        names.add(str(stopped.value))
    assert len(names) == 11


def test_equal_rows_are_dealt_out_too(spark, tmp_path):
    df = spark.range(50).select(F.lit(1.0).alias("x"), F.lit(1).alias("y"))
    manifest = prepare_spark(
        df, LocalStore(tmp_path), feature_columns=["x"], label_columns=["y"],
        validation=0.25, partitions=4,
    )  # fmt: skip
    assert [s.rows for s in manifest.train] == [10, 9, 9, 9]
    assert [s.rows for s in manifest.validation] == [4, 3, 3, 3]
    assert manifest.column("x").variance == (0.0,)


def test_a_column_marks_the_validation_rows(frame, data, tmp_path):
    store = LocalStore(tmp_path)
    manifest = prepare_spark(
        frame, store, feature_columns=["id"], label_columns=["label"], validation="late",
        partitions=2,
    )  # fmt: skip
    held_out = pd.concat([read(store, shard) for shard in manifest.validation])
    assert sorted(held_out["id"]) == data["id"][data["late"]].tolist()
    assert manifest.train_rows + manifest.validation_rows == ROWS
    train = data["id"][~data["late"]]
    assert manifest.column("id").mean == pytest.approx([train.mean()])
    assert manifest.column("id").variance == pytest.approx([train.var(ddof=0)])


def test_all_types_and_awkward_names(spark, tmp_path):
    schema = "b boolean, `by te` tinyint, s short, i int, l long, d decimal(9,2), shard double, `f.1` array<int>, `class` array<decimal(5,1)>"  # noqa: E501
    rows = [(i % 2 == 0, i, i, i, 2**40 + i, None, i / 2, [i, i + 1], None) for i in range(12)]
    df = (
        spark.createDataFrame(rows, schema)
        .withColumn("d", F.col("i").cast("decimal(9,2)") / 4)
        .withColumn("class", F.array(F.col("i").cast("decimal(5,1)")))
    )
    vectors = [(i, Vectors.dense([i, 1.0]), Vectors.sparse(3, {1: float(i)})) for i in range(12)]
    df = df.join(spark.createDataFrame(vectors, ["i", "dense", "sparse"]), "i")
    features = ["by te", "s", "l", "d", "shard", "f.1", "class", "dense", "sparse", "i"]
    store = LocalStore(tmp_path)
    manifest = prepare_spark(
        df, store, feature_columns=features, label_columns=["b"], validation=0.5, partitions=2
    )
    assert [(c.name, c.dtype, c.shape) for c in manifest.columns] == [
        ("by te", "int32", ()),
        ("s", "int32", ()),
        ("l", "int64", ()),
        ("d", "float32", ()),
        ("shard", "float32", ()),
        ("f.1", "int32", (2,)),
        ("class", "float32", (1,)),
        ("dense", "float32", (2,)),
        ("sparse", "float32", (3,)),
        ("i", "int32", ()),
        ("b", "int32", ()),
    ]
    assert manifest.column("b").classes == (0, 1)
    shards = (*manifest.train, *manifest.validation)
    rows = pd.concat([read(store, shard) for shard in shards]).sort_values("i")
    assert set(rows.columns) == {column.stored for column in manifest.columns}
    number = np.arange(12)
    get = {c.name: np.stack(rows[c.stored].to_numpy()) for c in manifest.columns}
    np.testing.assert_array_equal(get["by te"], number)
    np.testing.assert_array_equal(get["l"], 2**40 + number)
    np.testing.assert_array_equal(get["d"], (number / 4).astype("float32"))
    np.testing.assert_array_equal(get["f.1"], np.stack([number, number + 1], 1))
    np.testing.assert_array_equal(get["sparse"], np.outer(number, [0, 1, 0]))
    np.testing.assert_array_equal(get["b"], 1 - number % 2)
    layout = default_layout(manifest, inputs=3, feature_columns=["i", ["dense", "sparse"], "f.1"])
    (chunk,) = open_shard(store, shards[0], manifest, layout, 2**30).chunks(2, 0)
    ids = chunk.x[0][:, 0]
    np.testing.assert_array_equal(
        chunk.x[1], np.stack([ids, ids**0, 0 * ids, ids, 0 * ids], axis=1)
    )
    np.testing.assert_array_equal(chunk.x[2], np.stack([ids, ids + 1], axis=1))
    np.testing.assert_array_equal(chunk.y[0][:, 0], 1 - ids % 2)


def test_classes(spark, tmp_path):
    df = spark.range(2500).select(
        F.col("id").alias("x"),
        (F.col("id") % 3 - 1).cast("double").alias("whole"),
        (F.col("id") / 2).alias("half"),
        (F.col("id") % 1000).alias("most"),
        (F.col("id") % 1001).alias("many"),
        F.array("id").alias("array"),
    )
    manifest = prepare_spark(
        df, LocalStore(tmp_path), feature_columns=["x"], partitions=1,
        label_columns=["whole", "half", "most", "many", "array"],
    )  # fmt: skip
    classes = {column.name: column.classes for column in manifest.columns}
    assert classes["whole"] == (-1, 0, 1)
    assert classes["most"] == tuple(range(1000))
    assert [classes[name] for name in ("half", "many", "array")] == [None] * 3


def test_spark_and_arrays_make_the_same_statistics(frame, data, tmp_path):
    # With a marked split both have the same training rows.
    arguments = {**COLUMNS, "validation": "late", "partitions": 2}
    by_spark = prepare_spark(frame, LocalStore(tmp_path / "spark"), **arguments)
    columns = {name: data[name].to_numpy() for name in ("number", "label", "late")}
    columns["array"] = np.array(data["array"].tolist())
    by_arrays = prepare_arrays(columns, LocalStore(tmp_path / "arrays"), **arguments)
    assert [s.rows for s in by_spark.train] == [s.rows for s in by_arrays.train]
    for column, other in zip(by_spark.columns, by_arrays.columns, strict=True):
        assert (column.name, column.dtype, column.shape) == (other.name, other.dtype, other.shape)
        assert column.mean == pytest.approx(other.mean, rel=1e-12, abs=1e-14)
        assert column.variance == pytest.approx(other.variance, rel=1e-9)
        assert column.classes == other.classes


BAD = [
    ("x double", [(1.0,), (None,), (None,)], "column 'x' has nulls in 2 of 3 rows"),
    ("x double", [(1.0,), (float("nan"),), (2.0,)], "'x' has NaN in 1 of 3 rows"),
    ("x double", [(1.0,), (float("inf"),), (-1e300,)], "'x' has infinite.*float32.* in 2 of 3"),
    ("x array<double>", [([1.0],), (None,), ([2.0],)], "'x' has nulls in 1 of 3"),
    ("x array<double>", [([1.0, 2.0],), ([1.0],), ([2.0],)], "unequal length, from 1 to 2"),
    ("x array<double>", [([],), ([1.0],), ([2.0],)], "unequal length, from 0 to 1"),
    ("x array<int>", [([],), ([],), ([],)], "'x' has only empty arrays"),
    ("x array<int>", [([1],), ([None],), ([None],)], "null elements in its arrays in 2 of 3"),
    ("x array<float>", [([1.0, float("nan")],), ([1.0, 2.0],), ([float("inf"), 0.0],)],
     "'x' has NaN in 1 of 3 rows; the column 'x' has infinite .* in 1 of 3"),
    ("x string", [("a",), ("b",), ("c",)], "'x' has the type string.*index or one-hot it first"),
    ("x struct<a:int>", [((1,),), ((2,),), ((3,),)], "'x' has the type struct<a:int>"),
    ("x array<string>", [(["a"],), (["b"],), (["c"],)], "'x' has the type array<string>"),
    ("x array<array<int>>", [([[1]],), ([[1]],), ([[1]],)], "'x' has the type array<array<int>>"),
    ("x date", [(None,), (None,), (None,)], "'x' has the type date"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "rows", "message"), BAD)
def test_bad_values_are_counted_before_anything_is_written(spark, tmp_path, schema, rows, message):
    df = spark.createDataFrame([(*row, i) for i, row in enumerate(rows)], f"{schema}, y int")
    store = LocalStore(tmp_path)
    with pytest.raises(DataError, match=message):
        prepare_spark(
            df.coalesce(1), store, feature_columns=["x"], label_columns=["y"], partitions=1
        )
    assert list(tmp_path.iterdir()) == []


def test_bad_vectors(spark, tmp_path):
    rows = [(Vectors.dense([1, 2]), 0), (Vectors.sparse(3, [], []), 1), (None, 1)]
    schema = T.StructType([
        T.StructField("x", VectorUDT()), T.StructField("y", T.IntegerType())
    ])  # fmt: skip
    df = spark.createDataFrame(rows, schema)
    with pytest.raises(DataError, match=r"nulls in 1 of 3 rows; .*unequal length, from 2 to 3"):
        prepare_spark(
            df, LocalStore(tmp_path), feature_columns=["x"], label_columns=["y"], partitions=1
        )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"feature_columns": []}, ArgumentError, "feature_columns is empty"),
        ({"feature_columns": ["numbr"]}, DataError, "Did you mean 'number'"),
        ({"validation": "label"}, ArgumentError, "cannot be a label"),
        ({"validation": "id"}, DataError, "validation column 'id' must be boolean.*bigint"),
        ({"validation": 0.001}, DataError, "leaves no validation rows of 103"),
        ({"validation": 0.999}, DataError, "leaves no training rows of 103"),
        ({"validation": 0.05, "partitions": 6}, DataError, "5 validation rows, fewer than the 6"),
        ({"validation": 0.95, "partitions": 6}, DataError, "5 training rows, fewer than the 6"),
    ],
)
def test_bad_arguments_write_nothing(frame, tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        prepare_spark(frame, LocalStore(tmp_path), **{**COLUMNS, "partitions": 2, **change})
    assert list(tmp_path.iterdir()) == []


def test_an_empty_frame_and_a_null_mark(frame, tmp_path):
    with pytest.raises(DataError, match="no rows"):
        prepare_spark(frame.limit(0), LocalStore(tmp_path), **COLUMNS, partitions=1)
    marked = frame.withColumn("late", F.when(F.col("id") > 9, F.col("late")))
    with pytest.raises(DataError, match="'late' has nulls in 10 of 103"):
        prepare_spark(marked, LocalStore(tmp_path), **COLUMNS, validation="late", partitions=1)


def test_rows_that_change_between_two_readings_are_refused(frame, tmp_path):
    draw = F.udf(lambda: float(os.urandom(1)[0]), "double").asNondeterministic()
    df = frame.withColumn("number", draw())
    with pytest.raises(DataError, match="different rows when it was read again"):
        prepare_spark(df, LocalStore(tmp_path), **COLUMNS, partitions=1)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_the_middle_leaves_nothing(frame, tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    kept = frame.sparkSession.sparkContext._jsc.getPersistentRDDs
    frame.count()
    before = kept().size()

    def fail(*arguments):
        assert store.list("data")
        raise StoreError("the disk is full")

    monkeypatch.setattr(catalog, "check_visible", fail)
    with pytest.raises(StoreError, match="disk is full"):
        prepare_spark(frame, store, **COLUMNS, partitions=2)
    assert store.list("data") == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept().size() <= before


def test_a_folder_that_executors_cannot_write(frame, tmp_path):
    (tmp_path / "file").write_text("")

    class Unwritable(LocalStore):
        def __reduce__(self):
            return (LocalStore, (str(tmp_path / "file" / "x"),))

    with pytest.raises(StoreError) as caught:
        prepare_spark(frame, Unwritable(tmp_path / "here"), **COLUMNS, partitions=2)
    assert "cannot write shards" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_unfinished_data_does_not_count(frame, tmp_path):
    store = LocalStore(tmp_path)
    first = prepare_spark(frame, store, **COLUMNS, partitions=2)
    store.delete(manifest_key(first.fingerprint))
    store.write(f"{first.train[0].key}/part-99999.parquet", b"half a file")
    again = prepare_spark(frame, store, **COLUMNS, partitions=2)
    assert again.fingerprint == first.fingerprint
    folders = [{s.key.split("/")[2] for s in (*m.train, *m.validation)} for m in (first, again)]
    assert [len(names) for names in folders] == [1, 1]
    assert folders[0] != folders[1]
    assert len(read(store, again.train[0])) == again.train[0].rows


def test_the_manifest_has_the_size_and_digest_of_each_file(prepared):
    store, manifest = prepared
    for shard in (*manifest.train, *manifest.validation):
        folder = Path(store.address(shard.key).removeprefix("file://"))
        assert {file.name: (file.size, file.sha256) for file in shard.files} == {
            path.name: (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in folder.glob("*.parquet")
        }
        assert shard.files
        open_shard(store, shard, manifest, default_layout(manifest), 2**30)


def test_executors_that_do_not_see_the_shards(frame, tmp_path):
    class Elsewhere(LocalStore):
        def __reduce__(self):
            return (LocalStore, (str(tmp_path / "elsewhere"),))

    store = Elsewhere(tmp_path / "here")
    with pytest.raises(
        StoreError, match=r"^cannot find the files of the shard 'data/.*every worker share"
    ):
        prepare_spark(frame, store, **COLUMNS, partitions=2)
    assert store.list("data") == []


def test_a_shard_is_cut_into_files_of_known_size(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_writer, "FILE_ROWS", 10)
    spark.conf.set("spark.sql.files.maxRecordsPerFile", 3)
    try:
        store = LocalStore(tmp_path)
        manifest = prepare_spark(
            spark.range(60).select(F.col("id").alias("x"), (F.col("id") % 2).alias("y")),
            store, feature_columns=["x"], label_columns=["y"], validation=0.5, partitions=1,
        )  # fmt: skip
    finally:
        spark.conf.unset("spark.sql.files.maxRecordsPerFile")
    files = [key for key in store.list(manifest.train[0].key) if key.endswith(".parquet")]
    assert len(files) == 3


def test_columns_that_are_not_requested_do_no_harm(spark, tmp_path, caplog):
    df = spark.range(40).selectExpr(
        "cast(id as double) x", "id % 2 y", "shiftleft(1L, 60) + id big"
    )
    days = spark.range(40).selectExpr("cast(id as double) x", "current_date() day")
    twice = df.join(days, "x").join(days, "x")
    failing = df.withColumn("day", F.expr("if(x >= 0, raise_error('no day'), current_date())"))
    failing = failing.withColumn("day", F.col("day").cast("date"))
    for frame in (twice, failing):
        manifest = prepare_spark(
            frame, LocalStore(tmp_path), feature_columns=["x", "big"], label_columns=["y"],
            partitions=1,
        )  # fmt: skip
        assert manifest.train_rows == 32
        # Beyond 2^53, where float64 cannot distinguish them.
        assert manifest.column("big").variance[0] == pytest.approx(133.25, rel=0.3)
        assert manifest.column("big").mean[0] == 2.0**60
