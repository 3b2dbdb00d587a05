from __future__ import annotations

import numpy as np
import pytest

from cerebros_spark.data import checks
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.prepare import prepare
from cerebros_spark.data.shards import open_shard
from cerebros_spark.errors import StoreError
from cerebros_spark.store import LocalStore

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


def through_itself(folder) -> LocalStore:
    """A store that Spark's own writer is kept from."""
    store = LocalStore(folder)
    store.spark_writes = False
    return store


def test_what_is_written_through_the_store_is_what_spark_writes(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "FILE_ROWS", 10)
    stores = [LocalStore(tmp_path / "spark"), through_itself(tmp_path / "store")]
    manifests = [prepare(frame, store, **COLUMNS) for store in stores]
    assert manifests[0].columns == manifests[1].columns
    for split in ("train", "validation"):
        for shards in zip(*(getattr(m, split) for m in manifests), strict=True):
            assert shards[0].rows == shards[1].rows
            assert len(shards[1].files) == -(-shards[1].rows // 10)
            chunks = [
                next(open_shard(s, shard, m, default_layout(m), 2**20).chunks(8, None))
                for s, shard, m in zip(stores, shards, manifests, strict=True)
            ]
            for one, other in zip(*(chunk.x + chunk.y for chunk in chunks), strict=True):
                np.testing.assert_array_equal(one, other)


def test_what_can_not_be_written_is_told_and_nothing_is_left(frame, tmp_path, monkeypatch):
    store = through_itself(tmp_path)
    # The executors' own; a name that is too long fails there as it would anywhere.
    monkeypatch.setattr(checks, "unused", lambda name, taken: name + "s" * 300)
    with pytest.raises(StoreError, match=r"can't be written to file://.*too long") as caught:
        prepare(frame, store, **COLUMNS)
    assert "Traceback" not in str(caught.value)
    assert store.list("") == []
