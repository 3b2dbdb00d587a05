"""Structs of tables in memory as one column for each field."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cerebros_spark.core.errors import DataError
from nas.data.describe import describe_table
from nas.data.frames import to_frame
from nas.data.new_rows import encode_rows
from nas.data.structs import flatten_needed, flatten_structs
from nas.data.table import TableOptions, name_table

PLACES = [{"city": "Rom", "at": {"x": 1, "y": 2.5}}, None, {"city": None, "at": None}]
FRAME = pd.DataFrame({"place": PLACES, "size": [1, 2, 3]})


@pytest.mark.parametrize("table", [FRAME, to_frame(pa.Table.from_pandas(FRAME))])
def test_fields_become_columns_in_the_place_of_the_struct(table):
    flat, fields = flatten_structs(table)
    assert list(flat) == ["place.city", "place.at.x", "place.at.y", "size"]
    assert fields == {"place": ["place.city", "place.at.x", "place.at.y"]}
    assert flat["place.at.y"].astype(float).iloc[0] == 2.5
    assert flat["place.at.x"].isna().tolist() == [False, True, True]


def test_tables_without_structs_and_ignored_structs_stay():
    assert flatten_structs(FRAME, ["place"])[0] is FRAME
    arrays = pd.DataFrame({"v": [np.ones(2), np.ones(2)], "none": [None, None]})
    assert flatten_structs(arrays)[0] is arrays


def test_rows_of_several_types_and_taken_names_are_refused():
    with pytest.raises(DataError, match="'place' holds values of the types dict, int"):
        flatten_structs(pd.DataFrame({"place": [{"x": 1}, 3]}))
    with pytest.raises(DataError, match=r"field that would be called 'place\.city', as a column"):
        flatten_structs(FRAME.assign(**{"place.city": 1}))


@pytest.mark.parametrize(
    "table",
    [
        {"a": [{"b.c": 1}], "a.b": [{"c": 2}]},
        {"a": [{"b": {"c": 1}, "b.c": 2}]},
    ],
)
def test_fields_of_the_same_name_are_refused(table):
    with pytest.raises(DataError, match=r"would be called 'a\.b\.c'"):
        flatten_structs(pd.DataFrame(table))


def test_the_index_of_rows_stays():
    flat, _ = flatten_structs(FRAME.set_index(pd.Index([2, 1, 0])))
    assert flat.index.tolist() == [2, 1, 0]
    assert flat["place.at.x"].isna().tolist() == [False, True, True]


def test_only_needed_structs_of_new_rows_are_flattened():
    other = FRAME.assign(other=[{"x": 1}, 3, None])
    flat = flatten_needed(other, ["place.at.x", "size"])
    assert list(flat) == ["place.city", "place.at.x", "place.at.y", "size", "other"]


def test_fit_describe_and_new_rows_read_the_fields():
    import autokeras as ak

    rng = np.random.default_rng(0)
    places = [{"city": str(rng.choice(["Rom", "Ulm"])), "x": float(i)} for i in rng.normal(size=80)]
    frame = pd.DataFrame({"place": places, "size": rng.normal(size=80), "y": rng.normal(size=80)})
    described = describe_table(frame, "y")
    assert list(described.columns["name"]) == ["place.city", "place.x", "size"]
    options = {
        "label_columns": None,
        "validation_data": None,
        "sample_weight": None,
        "weight_column": None,
    }
    table_options = TableOptions([ak.RegressionHead()], {"place.city": "categorical"})
    named = name_table(
        frame, "y", table_options, feature_columns=["place"], validation=0.2, **options
    )
    assert named.features == ["place.city", "place.x"]
    schema = named.table.learn(np.arange(80))
    groups = [[each.name for each in schema.columns]]
    (nested,) = encode_rows(frame, schema, groups)
    (flat,) = encode_rows(flatten_structs(frame)[0], schema, groups)
    np.testing.assert_array_equal(nested, flat)
    assert len(nested) == 80
