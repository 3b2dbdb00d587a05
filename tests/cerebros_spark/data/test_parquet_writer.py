from __future__ import annotations

import numpy as np
import pytest

from cerebros_spark.core.errors import StoreError
from cerebros_spark.data import parquet_writer
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.prepare_spark import prepare_spark
from cerebros_spark.data.shards import open_shard
from cerebros_spark.storage.local import LocalStore

ROWS = 101
COLUMNS = {"feature_columns": ["number", "array"], "label_columns": ["label"], "partitions": 3}


@pytest.fixture(scope="module")
def frame(spark):
    rng = np.random.default_rng(0)
    rows = [
        (float(rng.normal()), rng.normal(size=2).tolist(), int(rng.integers(0, 3)))
        for _ in range(ROWS)
    ]
    return spark.createDataFrame(rows, "number double, array array<double>, label long").cache()


def test_a_shard_in_several_files_is_read_as_it_was_written(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_writer, "FILE_ROWS", 10)
    store = LocalStore(tmp_path)
    manifest = prepare_spark(frame, store, **COLUMNS)
    rows = []
    for shard in (*manifest.train, *manifest.validation):
        assert len(shard.files) == -(-shard.rows // 10)
        layout = default_layout(manifest)
        (chunk,) = open_shard(store, shard, manifest, layout, 2**20).chunks(8, None)
        rows += np.hstack([*chunk.x, *chunk.y]).tolist()
    expected = np.float32([[row.number, *row.array, row.label] for row in frame.collect()])
    assert sorted(rows) == sorted(expected.tolist())


def test_a_failed_write_is_reported_and_leaves_nothing(frame, tmp_path):
    class TooLong(LocalStore):
        """A store whose name is too long on the executors."""

        def __reduce__(self):
            return (LocalStore, (str(tmp_path / ("s" * 300)),))

    store = TooLong(tmp_path / "here")
    with pytest.raises(StoreError, match="too long") as caught:
        prepare_spark(frame, store, **COLUMNS)
    assert "Traceback" not in str(caught.value)
    assert store.list("") == []
