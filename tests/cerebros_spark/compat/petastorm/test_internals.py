"""The private attributes of Petastorm that are used exist in the installed version."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cerebros_spark.compat.petastorm.internals import (
    read_without_threads,
    replace_results_reader,
)
from cerebros_spark.compat.petastorm.loading import load_petastorm

petastorm = load_petastorm()
VERSION = f"Petastorm {petastorm.__version__}"


class Tables:
    batched_output = True

    def read_next(self, pool, schema, ngram):
        return pool.get_results()


@pytest.fixture
def reader(tmp_path):
    pq.write_table(pa.table({"x": [1, 2, 3]}), tmp_path / "part.parquet")
    reader = petastorm.make_batch_reader(
        f"file://{tmp_path}", reader_pool_type="dummy", num_epochs=1
    )
    yield reader
    reader.stop()
    reader.join()


def test_replace_results_reader(reader):
    assert hasattr(reader._results_queue_reader, "read_next"), VERSION
    assert reader._results_queue_reader.batched_output is True, VERSION
    replace_results_reader(reader, Tables())
    assert next(reader)["x"].to_pylist() == [1, 2, 3], VERSION


def test_read_without_threads(reader):
    (piece,) = reader._workers_pool._worker._split_pieces
    read_without_threads(reader)
    assert getattr(piece.read, "keywords", {}) in ({}, {"use_threads": False}), VERSION
    assert next(reader).x.tolist() == [1, 2, 3], VERSION
