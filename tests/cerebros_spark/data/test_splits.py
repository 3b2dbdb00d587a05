"""Every split and every partition is a fair sample, whatever is repeated in the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import kstest

from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.data.prepare_spark import prepare_spark
from cerebros_spark.data.splits import allocate
from cerebros_spark.storage.local import LocalStore

COUNTS = st.lists(st.integers(1, 200), min_size=1, max_size=30)


@given(COUNTS, st.floats(0.01, 0.99))
@example([1, 1, 9], 0.75)
def test_classes_get_their_share_of_the_validation_rows(counts, fraction):
    rows = sum(counts)
    validation = round(rows * fraction)
    strata = allocate(counts, validation)
    assert sum(s.validation for s in strata) == validation
    assert sum(s.rows for s in strata) == rows
    start = before = 0
    for stratum in strata:
        assert (stratum.start, stratum.validation_before) == (start, before)
        assert 0 <= stratum.validation <= stratum.rows
        start, before = start + stratum.rows, before + stratum.validation
    if rows - validation >= len(counts):
        assert all(s.validation < s.rows for s in strata), "a class has no training row"
        if min(counts) * (1 - fraction) > 1:  # no class is held back from its share
            assert all(abs(s.validation - s.rows * validation / rows) < 1 for s in strata)


def shards_of(source: str, frame: pd.DataFrame, folder: Path, spark, **more):
    """The rows of each training and each validation shard, and the manifest."""
    store = LocalStore(folder)
    arguments = {"feature_columns": ["x"], "label_columns": ["y"], "partitions": 3, **more}
    if source == "spark":
        manifest = prepare_spark(spark.createDataFrame(frame), store, **arguments)
    else:
        columns = {name: frame[name].to_numpy() for name in frame}
        manifest = prepare_arrays(columns, store, **arguments)
    return [
        [pd.read_parquet(store.address(shard.key).removeprefix("file://")) for shard in split]
        for split in (manifest.train, manifest.validation)
    ]


SOURCES = pytest.mark.parametrize("source", ["arrays", "spark"])


@SOURCES
def test_two_rows_that_are_repeated(source, spark, tmp_path):
    frame = pd.DataFrame({"x": [0.0] * 400 + [1.0] * 100, "y": [0] * 400 + [1] * 100})
    train, validation = shards_of(source, frame, tmp_path, spark)
    for shards, few in ((train, 80), (validation, 20)):
        assert sum(shard["y"].sum() for shard in shards) == few
        for shard in shards:
            assert abs(shard["y"].sum() - few / 3) < 1
            # Shuffled: as many changes between neighbors as chance has, and not one.
            changes = (np.diff(shard["y"]) != 0).sum()
            assert changes > 0.15 * len(shard)


@SOURCES
def test_many_rows_that_are_repeated(source, spark, tmp_path):
    rng = np.random.default_rng(3)
    times = rng.integers(1, 30, 60)
    frame = pd.DataFrame({"x": np.arange(60.0), "y": rng.integers(0, 4, 60)})
    frame = frame.loc[np.repeat(np.arange(60), times)].sample(frac=1, random_state=0)
    train, validation = shards_of(source, frame, tmp_path, spark, seed=5)
    rows, held_out = len(frame), sum(map(len, validation))
    assert held_out == round(0.2 * rows)
    for shards, share in ((train, 0.8 / 3), (validation, 0.2 / 3)):
        for shard in shards:
            classes = shard["y"].value_counts()
            wanted = frame["y"].value_counts() * share
            assert (abs(classes - wanted) < 1.5).all()
            # How often each row is in a shard is as for a random draw, or more even than that.
            times_there = frame["x"].value_counts()
            found = shard["x"].value_counts().reindex(times_there.index, fill_value=0)
            expected = times_there * share
            assert ((found - expected) ** 2 / (expected * (1 - share))).sum() < 100  # 60 +- 11


@SOURCES
def test_rows_that_differ_are_drawn_at_random(source, spark, tmp_path):
    frame = pd.DataFrame({"x": np.arange(1500.0), "y": np.arange(1500) / 3})
    train, validation = shards_of(source, frame, tmp_path, spark, seed=2)
    for shard in (*train, *validation):
        assert kstest(shard["x"] / 1500, "uniform").pvalue > 0.01
        assert abs(np.corrcoef(np.arange(len(shard)), shard["x"])[0, 1]) < 3.5 / len(shard) ** 0.5


@SOURCES
def test_a_rare_class_is_in_the_training_rows(source, spark, tmp_path):
    frame = pd.DataFrame({"x": np.arange(100.0), "y": [0] * 60 + [1] * 38 + [2] + [3]})
    for seed in range(3):
        train, _ = shards_of(source, frame, tmp_path / str(seed), spark, seed=seed, partitions=1)
        assert set(train[0]["y"]) == {0, 1, 2, 3}


@SOURCES
def test_one_hot_labels_are_stratified(source, spark, tmp_path):
    labels = np.eye(3)[[0] * 50 + [1] * 30 + [2] * 20]
    if source == "spark":
        rows = [(float(i), row.tolist()) for i, row in enumerate(labels)]
        store = LocalStore(tmp_path)
        manifest = prepare_spark(
            spark.createDataFrame(rows, "x double, y array<double>"), store,
            feature_columns=["x"], label_columns=["y"], partitions=2,
        )  # fmt: skip
    else:
        store = LocalStore(tmp_path)
        manifest = prepare_arrays(
            {"x": np.arange(100.0), "y": labels}, store,
            feature_columns=["x"], label_columns=["y"], partitions=2,
        )  # fmt: skip
    for shard in manifest.validation:
        rows = pd.read_parquet(store.address(shard.key).removeprefix("file://"))
        assert np.stack(rows["y"]).sum(axis=0).tolist() == [5, 3, 2]


def test_the_last_rows_validate_without_shuffling(tmp_path):
    frame = pd.DataFrame({"x": np.arange(103.0), "y": np.arange(103) % 2})
    train, validation = shards_of("arrays", frame, tmp_path, None, shuffle=False)
    assert sorted(pd.concat(validation)["x"]) == list(range(82, 103))
    assert all(0.4 < shard["y"].mean() < 0.6 for shard in train)
    assert shards_of("arrays", frame, tmp_path, None)[1][0]["x"].min() < 82
