"""Spark DataFrames are prepared alike on the driver and on the executors."""

from __future__ import annotations

import logging

import autokeras as ak
import msgspec
import numpy as np
import pandas as pd
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError
from nas.config.binding import Resources
from nas.config.dataset import prepare_data
from nas.data.table import TableOptions
from tests.nas.tables import raw_table

NAMES = ["number", "count", "color", "answer", "at", "shop", "large", "flag", "y"]


@pytest.fixture(scope="module")
def df(spark):
    frame = raw_table(300)[NAMES]
    return spark.createDataFrame(frame).repartition(3)


def prepare(folder, df, collect_rows, *, validation="flag", **options):
    resources = Resources(
        LocalBackend(2), LocalStore(folder), None, None, "auto", (), None, 2**30, 2**31,
        collect_rows=collect_rows, **options.pop("bind", {}),
    )  # fmt: skip
    arguments = {"validation_data": None, "sample_weight": None, "shuffle": True, **options}
    prepared = prepare_data(
        resources, df, "y", table=TableOptions((ak.ClassificationHead(),)),
        validation=validation, seed=1, inspect=lambda planned: None, **arguments,
    )  # fmt: skip
    return resources.store, prepared


def test_both_ways_learn_the_same_from_the_same_rows(df, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="nas.config.sources"):
        _, small = prepare(tmp_path / "small", df, 300)
    assert "it is prepared on the driver" in caplog.text
    caplog.clear()
    _, large = prepare(tmp_path / "large", df, 299)
    assert "on the driver" not in caplog.text
    one, other = small.manifest, large.manifest
    assert (one.train_rows, one.validation_rows) == (other.train_rows, other.validation_rows)
    assert one.table.labels[0].values == other.table.labels[0].values == ("bad", "good")
    for column, expected in zip(one.table.columns, other.table.columns, strict=True):
        found, wanted = (msgspec.to_builtins(each) for each in (column, expected))
        assert found.pop("type")
        wanted.pop("type")
        if "center" in found:  # quantiles of bins, and of values
            np.testing.assert_allclose(found.pop("center"), wanted.pop("center"), rtol=0.05)
            np.testing.assert_allclose(found.pop("scale"), wanted.pop("scale"), rtol=0.2)
        assert found == wanted


def test_the_split_is_found_again_whatever_the_order_of_rows(df, tmp_path):
    _, first = prepare(tmp_path, df, 1000, validation=0.25)
    _, again = prepare(tmp_path, df.orderBy("number").coalesce(1), 1000, validation=0.25)
    assert first.manifest.fingerprint == again.manifest.fingerprint


def test_groups_stay_together_on_the_driver(df, tmp_path):
    _, prepared = prepare(tmp_path, df, 1000, validation=0.25, bind={"group_column": "shop"})
    assert "shop" not in {column.name for column in prepared.manifest.table.columns}
    assert prepared.manifest.validation_rows > 0


def test_rows_without_order_are_refused_in_both_ways(df, tmp_path):
    for rows in (0, 1000):
        with pytest.raises(ArgumentError, match="have no order"):
            prepare(tmp_path, df, rows, validation=0.25, shuffle=False)


def test_a_sorted_date_is_said(spark, tmp_path, caplog):
    frame = pd.DataFrame({"at": pd.date_range("2024-01-01", periods=60), "y": [0, 1] * 30})
    prepare(tmp_path, spark.createDataFrame(frame).coalesce(1), 1000, validation=0.25)
    assert "seem to be sorted by 'at'" in caplog.text


@pytest.mark.parametrize("number", [-1, 1.5, "all"])
def test_the_limit_is_a_number_of_rows(tmp_path, number):
    with pytest.raises(ArgumentError, match="collect_rows"):
        prepare(tmp_path, None, number)
