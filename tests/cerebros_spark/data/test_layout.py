from __future__ import annotations

import pytest

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import Column, Layout, Manifest

MANIFEST = Manifest(
    "f",
    (
        Column("a", "float32", (), "feature"),
        Column("b", "int32", (), "feature"),
        Column("image", "float32", (2, 3), "feature"),
        Column("y", "int32", (), "label"),
        Column("z", "float32", (4,), "label"),
    ),
    (),
    (),
    0,
)


def test_one_input_has_all_features_side_by_side():
    assert default_layout(MANIFEST) == Layout((("a", "b", "image"),), (("y", "z"),), ((8,),))


def test_one_feature_for_each_input():
    layout = default_layout(MANIFEST, inputs=3, outputs=2)
    assert layout.inputs == (("a",), ("b",), ("image",))
    assert layout.outputs == (("y",), ("z",))
    assert layout.input_shapes == ((1,), (1,), (2, 3))


def test_groups():
    layout = default_layout(MANIFEST, inputs=2, feature_columns=[["b", "image"], "a"])
    assert layout.inputs == (("b", "image"), ("a",))
    assert layout.input_shapes == ((7,), (1,))


def test_some_columns_only():
    layout = default_layout(MANIFEST, feature_columns=["image"], label_columns=["y"])
    assert layout == Layout((("image",),), (("y",),), ((2, 3),))


def test_shapes():
    one = default_layout(MANIFEST, feature_columns=["image"], input_shape=(3, 2, 1))
    assert one.input_shapes == ((3, 2, 1),)
    several = default_layout(MANIFEST, inputs=3, input_shape=[None, (1,), [6]])
    assert several.input_shapes == ((1,), (1,), (6,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": 2}, r"2 inputs, but feature_columns has 3 columns \(a, b, image\): group"),
        ({"outputs": 3}, "3 outputs, but label_columns has 2"),
        ({"inputs": 2, "feature_columns": [["a"]]}, "1 groups, but the model has 2"),
        ({"inputs": 2, "feature_columns": [["a"], []]}, "at least one name"),
        ({"feature_columns": ["y"]}, "feature_columns has 'y', but the data has a, b, image"),
        ({"input_shape": (7,)}, r"\(7,\) has 7 elements, but the columns a, b, image have 8"),
        ({"input_shape": (-1, -8)}, "has 8 elements"),
        ({"input_shape": [(8,), (1,)]}, "a shape for each of the 1 inputs"),
        ({"input_shape": [("8",)]}, "integers"),
        ({"inputs": 3, "input_shape": (1,)}, "a shape for each of the 3 inputs"),
    ],
)
def test_columns_that_do_not_fit_are_reported(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        default_layout(MANIFEST, **arguments)
