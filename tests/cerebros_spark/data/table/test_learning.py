"""The encoding that is learned from counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cerebros_spark.data.table.arrow_table import ArrowTable
from cerebros_spark.data.table.schema import DatetimeColumn
from tests.cerebros_spark.data.table.memory_tables import encode_one, learn


def test_quantiles_of_many_rows_are_close():
    values = np.random.default_rng(0).lognormal(size=20_000)
    column, _, _ = encode_one(values)
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    assert column.center[0] == pytest.approx(middle, abs=0.02 * (high - low))
    assert 1 / column.scale[0] == pytest.approx(high - low, rel=0.02)


def test_a_number_that_is_mostly_zero_is_scaled_by_its_range():
    column, _, matrix = encode_one([0.0] * 30 + [8.0, -2.0])
    assert (column.center, column.scale) == ((0.0,), (0.2,))
    assert matrix[-2, 0] == pytest.approx(1.6 / np.sqrt(1 + (1.6 / 3) ** 2))


def test_integers_that_exported_models_would_round_are_not_hashed():
    values = [*range(10_000), *range(10_000), *range(2**53, 2**53 + 500)]
    column, field, _ = encode_one(values, x="categorical")
    assert (column.buckets, column.other, field.max()) == (0, True, 10_001)
    assert set(field[20_000:]) == {1}


def test_without_names_and_embeddings_all_other_categories_are_one():
    values = [f"user {i}" for i in range(10_500) for _ in range(1 + (i < 10_000))]
    named = {"x": "categorical"}
    table = pa.table({"x": [*values, *values]})
    for types, embeds, known in (({}, True, 10_000), (named, False, 100)):
        created = ArrowTable.create(table, types, embeds=embeds)
        schema = created.learn(np.arange(2 * len(values)))
        (column,) = schema.columns
        assert (len(column.values), column.other, column.buckets) == (known, True, 0)


def test_statistics_are_those_of_the_training_rows():
    values = np.r_[np.arange(101.0), np.full(50, 1e6)]
    schema, _ = learn({"x": values}, rows=range(101))
    assert schema.columns[0].center == (50.0,)


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_integers_that_are_no_microseconds_give_a_warning(unit, caplog):
    seconds = np.arange(60) * 86400 + 1_700_000_000
    schema, _ = learn({"at": seconds * unit}, {"at": "datetime"})
    assert isinstance(schema.columns[0], DatetimeColumn)
    is_likely = unit == 10**6
    assert ("'at' holds integers, which count as microseconds" in caplog.text) != is_likely
