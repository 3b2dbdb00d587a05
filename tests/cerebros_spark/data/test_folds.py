from __future__ import annotations

import numpy as np
import pytest

from cerebros_spark.core.errors import DataError
from cerebros_spark.core.types import Phase, TrialSpec
from cerebros_spark.data.folds import FoldShards
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.data.shards import open_shard
from cerebros_spark.storage.local import LocalStore

ROWS, PARTITIONS, FOLDS = 103, 2, 5
COLUMNS = {
    "id": np.arange(ROWS),
    "label": np.arange(ROWS) * 2.0,
    "weight": np.arange(ROWS) / ROWS,
}


@pytest.fixture(scope="module")
def partitions(tmp_path_factory):
    store = LocalStore(tmp_path_factory.mktemp("store"))
    manifest = prepare_arrays(
        COLUMNS, store, feature_columns=["id"], label_columns=["label"], weight_column="weight",
        validation=0.2, partitions=PARTITIONS,
    )  # fmt: skip
    layout = default_layout(manifest)

    def make(number, memory=2**20):
        shards = {Phase.TRAIN: manifest.train[number], Phase.VALIDATE: manifest.validation[number]}
        return FoldShards(lambda phase: open_shard(store, shards[phase], manifest, layout, memory))

    return make


def in_fold(fold, folds=FOLDS):
    return TrialSpec("trial", 0, "keras", "", 0, 1, 8, fold=fold, folds=folds)


def ids(shard, **options):
    (chunk,) = shard.chunks(8, None, **options)
    x, y, weights = chunk.x[0][chunk.order, 0], chunk.y[0][chunk.order, 0], chunk.weights
    np.testing.assert_array_equal(y, x * 2)
    np.testing.assert_allclose(weights[chunk.order], x / ROWS, rtol=1e-6)
    assert len(x) == shard.rows
    return x.tolist()


def test_every_row_validates_in_one_fold_and_trains_in_the_others(partitions):
    validated = []
    for number in range(PARTITIONS):
        shards = partitions(number)
        everything = sorted(ids(shards.get(Phase.TRAIN)) + ids(shards.get(Phase.VALIDATE)))
        for fold in range(FOLDS):
            train = ids(shards.get(Phase.TRAIN, in_fold(fold)))
            held_out = ids(shards.get(Phase.VALIDATE, in_fold(fold)))
            assert sorted(train + held_out) == everything
            assert abs(len(held_out) - len(everything) / FOLDS) <= 1
            validated += held_out
    assert sorted(validated) == list(range(ROWS))


def test_fold_0_is_the_split_of_the_data(partitions):
    shards = partitions(0)
    for phase in Phase:
        assert shards.get(phase, in_fold(0)) is shards.get(phase)
        assert shards.get(phase, in_fold(0, folds=1)) is shards.get(phase)


def test_a_fold_is_read_once(partitions):
    shards = partitions(1)
    assert shards.get(Phase.TRAIN, in_fold(3)) is shards.get(Phase.TRAIN, in_fold(3))


def test_folds_need_the_rows_in_memory(partitions):
    with pytest.raises(DataError, match="shard_memory"):
        partitions(0, memory=64).get(Phase.TRAIN, in_fold(1))


def test_an_order_depends_on_the_seed_alone(partitions):
    shard = partitions(0).get(Phase.TRAIN, in_fold(2))
    orders = [next(iter(shard.chunks(8, seed))).order.tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == list(range(shard.rows))
