from __future__ import annotations

import json

import _experiment
import criteo
import digits
import fixed
import houses
import keras
import numpy as np
import pytest
from make_criteo import CATEGORIES, make

from cerebros_spark import LocalBackend


@pytest.fixture
def threads(monkeypatch, eager_training):
    """Workers are threads here; the tests of backends cover Spark's."""
    monkeypatch.setattr(
        "cerebros_spark.SparkBackend",
        lambda context, num_workers: LocalBackend(num_workers=num_workers),
        raising=False,
    )


def figures(name, module, spark, folder, *words):
    """Return the figures of an experiment at the smallest size."""
    small = ["--trials", "1", "--epochs", "1", "--workers", "1"]
    words = [*small, "--folder", str(folder), *words]
    args = module.parser().parse_args(words)
    _experiment.save_results(name, args, module.run(spark, args))
    result = json.loads((folder / name / "result.json").read_text())
    assert result["arguments"]["folder"] == str(folder)
    for label, board in result["leaderboards"].items():
        assert [row["status"] for row in board] == ["completed"], board
        keras.models.load_model(folder / name / f"{label}.keras")
    return {label: figure["value"] for label, figure in result["figures"].items()}


def test_digits_are_read_from_libsvm_and_searched(spark, tmp_path, threads):
    figures_found = figures("digits", digits, spark, tmp_path, "--tuners", "greedy")
    assert 0 <= figures_found["greedy: test accuracy"] <= 1
    assert figures_found["logistic regression: test accuracy"] > 0.9
    rows = digits.read(spark, tmp_path / "digits" / "digits.libsvm").collect()
    from sklearn.datasets import load_digits

    np.testing.assert_array_equal([r["features"].toArray() for r in rows], load_digits().data)


def test_clicks_are_scored_beside_the_ceiling(spark, tmp_path, threads):
    figures_found = figures("criteo", criteo, spark, tmp_path, "--rows", "4000", "--no-linear")
    assert figures_found["rows"] == 4000
    ceiling = figures_found["true model: test AUC"]
    assert 0.7 < ceiling < 0.9
    assert 0.4 < figures_found["search: test AUC"] < ceiling


def test_words_are_hashed_into_buckets_of_their_column(spark, tmp_path):
    make(tmp_path / "rows", 200, 0)
    raw = spark.read.parquet(str(tmp_path / "rows"))
    before = raw.orderBy("probability").toPandas()
    after = criteo.prepare_columns(raw, 50).orderBy("probability").toPandas()
    words = np.stack(after["words"])
    assert (words // 50 == np.arange(len(CATEGORIES))).all()
    # The same word, the same bucket; a missing one has a bucket too.
    assert before["C9"].isna().any()
    for _, buckets in after["words"].str[8].groupby(before["C9"].fillna("missing")):
        assert buckets.nunique() == 1
    numbers = np.stack(after["numbers"])
    np.testing.assert_allclose(numbers[:, 0], np.log1p(before["I1"].fillna(0)), rtol=1e-6)
    np.testing.assert_array_equal(numbers[:, 1], before["I1"].isna())


def test_houses_are_scored_in_dollars_beside_the_floor(spark, tmp_path, threads):
    figures_found = figures("houses", houses, spark, tmp_path, "--rows", "400", "--levels", "2")
    floor = figures_found["true model: test error"]
    assert floor < figures_found["ridge regression of their logarithms: test error"]
    assert floor < figures_found["search: test error"] < 10 * floor


def test_houses_have_the_shape_of_the_ames_table():
    frame = houses.houses(2930, 0)
    assert frame.drop(columns=["price", "expected"]).shape == (2930, 38)
    assert np.isfinite(frame.to_numpy()).all()
    logs = np.log(frame["price"] / frame["expected"])
    # A lognormal price is its expectation on average.
    assert logs.std() == pytest.approx(houses.NOISE, rel=0.1)
    assert logs.mean() == pytest.approx(-(houses.NOISE**2) / 2, abs=0.01)


def test_a_fixed_network_is_compared_with_itself_as_compiled(spark, tmp_path):
    figures_found = figures("fixed", fixed, spark, tmp_path)
    assert figures_found["as compiled, plain Keras: test accuracy"] > 0.5
    assert 0 <= figures_found["searched: test accuracy"] <= 1
    assert 1e-4 <= figures_found["best learning rate"] <= 3e-2


def test_training_and_test_rows_are_told_apart_by_their_content(spark):
    df = spark.range(500)
    train, test = _experiment.split(df, 1)
    again, _ = _experiment.split(df.repartition(3), 1)
    assert sorted(train.collect()) == sorted(again.collect())
    assert sorted(train.union(test).collect()) == df.collect()
    assert 60 < test.count() < 140
