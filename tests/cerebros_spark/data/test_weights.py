from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import Manifest, OtherFormatError, manifest_key
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.data.prepare_spark import prepare_spark
from cerebros_spark.data.shards import open_shard
from cerebros_spark.storage.local import LocalStore

ROWS = 60
ARGUMENTS = {"feature_columns": ["a"], "label_columns": ["y"], "partitions": 2}


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    a = rng.normal(size=ROWS).astype("float32")
    # A row's weight is known by its feature.
    return pd.DataFrame({"a": a, "y": np.arange(ROWS) % 3, "w": np.abs(a) * 2})


def by_arrays(frame, store, **more) -> Manifest:
    columns = {name: np.asarray(frame[name].tolist()) for name in frame}
    return prepare_arrays(columns, store, **ARGUMENTS, **more)


@pytest.fixture
def by_spark(spark):
    def prepare(frame, store, **more) -> Manifest:
        # From rows: from a pandas frame, NaN becomes null since Spark 4.
        rows = [tuple(row) for row in frame.astype(object).itertuples(index=False)]
        df = spark.createDataFrame(rows, list(frame))
        return prepare_spark(df, store, **ARGUMENTS, **more)

    return prepare


@pytest.fixture(params=["arrays", "spark"])
def prepared_by(request):
    return by_arrays if request.param == "arrays" else request.getfixturevalue("by_spark")


def test_weights_are_stored_with_their_rows(prepared_by, tmp_path):
    store = LocalStore(tmp_path)
    manifest = prepared_by(table(), store, weight_column="w")
    assert manifest.weight is not None
    assert (manifest.weight.dtype, manifest.weight.shape) == ("float32", ())
    assert manifest.weight.classes is None
    layout = default_layout(manifest)
    assert layout.columns == ("a", "y")
    rows = 0
    for shard in (*manifest.train, *manifest.validation):
        for memory in (2**20, 64):
            for chunk in open_shard(store, shard, manifest, layout, memory).chunks(8, 1):
                np.testing.assert_allclose(chunk.weights, np.abs(chunk.x[0][:, 0]) * 2, rtol=1e-6)
                assert chunk.weights.dtype == "float32"
                rows += len(chunk.weights)
    assert rows == 2 * ROWS


def test_weighted_data_is_reused_and_distinguished_from_other_data(prepared_by, tmp_path):
    store = LocalStore(tmp_path)
    first = prepared_by(table(), store, weight_column="w")
    assert prepared_by(table(), store, weight_column="w") == first
    plain = prepared_by(table(), store)
    assert plain.weight is None
    assert plain.fingerprint != first.fingerprint
    other = table()
    other.loc[0, "w"] += 1
    assert prepared_by(other, store, weight_column="w").fingerprint != first.fingerprint
    # What reads no weights must not take such data for its own.
    formats = [
        json.loads(store.read(manifest_key(manifest.fingerprint)))["format"]
        for manifest in (plain, first)
    ]
    assert formats == [2, 3]
    assert Manifest.from_json(first.to_json()) == first
    with pytest.raises(OtherFormatError):
        Manifest.from_json(first.to_json().replace('"format": 3', '"format": 5'))


def test_integers_and_booleans_are_weights_too(prepared_by, tmp_path):
    for number, values in enumerate(([2, 0, 1] * 20, [True, False] * 30)):
        frame = table().assign(w=values)
        manifest = prepared_by(frame, LocalStore(tmp_path / f"{number}"), weight_column="w")
        assert manifest.weight.dtype == "float32"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([-3.5, -1.0], "'w' has negative sample weights (the least is -3.5) in 2 of 60 rows"),
        ([float("nan")], "the column 'w' has NaN in 1 of 60 rows"),
        ([float("inf")], "the column 'w' has infinite values"),
        ([0.0] * ROWS, "the sample weights in 'w' are 0 in all training rows"),
    ],
    ids=["negative", "nan", "infinite", "zeros"],
)
def test_weights_that_cannot_be_used_are_refused(prepared_by, tmp_path, values, message):
    frame = table()
    frame.loc[: len(values) - 1, "w"] = values
    with pytest.raises(DataError, match=re.escape(message)):
        prepared_by(frame, LocalStore(tmp_path), weight_column="w")
    assert not list(tmp_path.rglob("*.parquet"))


def test_weights_are_one_number_a_row(prepared_by, tmp_path):
    frame = table().assign(w=[[1.0, 2.0]] * ROWS)
    with pytest.raises(DataError, match="'w' must hold one number per row, but has the type"):
        prepared_by(frame, LocalStore(tmp_path), weight_column="w")


def test_a_weight_column_is_nothing_else(prepared_by, tmp_path):
    for name in ("a", "y"):
        with pytest.raises(ArgumentError, match=f"the column '{name}' holds sample weights"):
            prepared_by(table(), LocalStore(tmp_path), weight_column=name)
    with pytest.raises(DataError, match="no column 'weight'"):
        prepared_by(table(), LocalStore(tmp_path), weight_column="weight")


def test_data_without_weights_keeps_its_name(tmp_path):
    rng = np.random.default_rng(0)
    columns = {"a": rng.normal(size=(20, 2)), "y": np.arange(20) % 2}
    manifest = prepare_arrays(columns, LocalStore(tmp_path), **ARGUMENTS)
    assert manifest.fingerprint == "32f0e3ceed27d7d9ec88e348068b8218"
