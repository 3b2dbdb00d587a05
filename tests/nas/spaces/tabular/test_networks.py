from __future__ import annotations

import dataclasses
import json

import keras
import keras_tuner
import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.data.table.schema import CodeLayout, MatrixLayout
from cerebros_spark.training.keras.serialization import deserialize_model, serialize_model
from nas import TabularSpace
from nas.config.description import describe_network
from nas.spaces.cerebros.networks import Output
from nas.spaces.tabular.networks import TabularNetworks
from nas.spaces.tabular.portfolio import list_points
from nas.spaces.tabular.sizes import choose_batch_size, choose_epochs
from nas.spaces.tabular.space import FAMILIES

FRONT = MatrixLayout(numbers=3, flags=2, codes=(CodeLayout(codes=12, missing=True, other=True),))
PRICE = Output("price", 1, loss="mean_squared_error", mean=(1000.0,), variance=(400.0,))
KIND = Output("kind", 3, "softmax", "sparse_categorical_crossentropy", ("accuracy",))


def networks(*outputs, fronts=(FRONT,), families=FAMILIES):
    return TabularNetworks(
        TabularSpace(families=families), fronts, outputs or (PRICE,), steps=100, batch_size=64
    )


def matrix(rows=40, scale=1.0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, FRONT.width)).astype("float32") * scale
    x[:, 5] = rng.integers(0, 12, rows)
    return x


def values_of(family, **more):
    hp = keras_tuner.HyperParameters()
    hp.values = {"family": family, **more}
    return hp


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("outputs", [(PRICE,), (KIND,), (PRICE, KIND)])
def test_every_family_builds_and_survives_the_way_to_a_worker(family, outputs):
    keras.utils.set_random_seed(1)
    model = networks(*outputs).build(values_of(family))
    copy = deserialize_model(serialize_model(model))
    copy.set_weights(model.get_weights())
    for one, other in zip(
        keras.tree.flatten(model(matrix())), keras.tree.flatten(copy(matrix())), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert [output.shape[-1] for output in model.outputs] == [o.width for o in outputs]


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_begin_near_the_labels_and_stay_there_for_any_row(family):
    keras.utils.set_random_seed(1)
    model = networks().build(values_of(family))
    # The matrix is clipped to 3, so that this is the worst of all rows.
    predicted = np.asarray(model(np.sign(matrix()) * 3))
    assert np.abs(predicted - 1000).max() < 20 * 20


def test_all_families_are_declared_in_one_build():
    hp = keras_tuner.HyperParameters()
    networks().build(hp)
    names = {definition.name for definition in hp.space}
    for family in set(FAMILIES) - {"cerebros"}:
        assert f"{family}/learning_rate" in names
    assert {"family", "batch_size", "cerebros/levels", "cerebros/rate"} <= names


def test_inactive_families_have_no_values():
    hp = values_of("linear")
    networks().build(hp)
    assert "realmlp/width" not in hp.values
    assert hp.values["linear/learning_rate"] > 0


@pytest.mark.parametrize("is_regression", [True, False])
def test_every_point_is_in_the_space(is_regression):
    space = networks(PRICE if is_regression else KIND)
    hp = keras_tuner.HyperParameters()
    space.build(hp)
    known = {definition.name: definition for definition in hp.space}
    for point in list_points(is_regression):
        for name, value in point.items():
            definition = known[name]
            if hasattr(definition, "min_value"):
                assert definition.min_value <= value <= definition.max_value
            else:
                assert value in definition.values
        space.build(values_of(**{k: v for k, v in point.items() if k == "family"}, **{
            k: v for k, v in point.items() if k != "family"}))  # fmt: skip


def test_points_are_those_of_the_chosen_families():
    points = networks(families=("linear", "mlp")).points
    assert {point["family"] for point in points} == {"linear", "mlp"}


def test_members_need_a_loss_of_which_the_mean_is_known():
    absolute = dataclasses.replace(PRICE, loss="mean_absolute_error")
    space = networks(absolute)
    assert "tabm" not in space.families
    assert "tabm" not in {point["family"] for point in space.points}
    with pytest.raises(ArgumentError, match="'price' is MeanAbsoluteError: add another family"):
        networks(absolute, families=("tabm",))


def test_members_take_no_weights():
    space = TabularNetworks(
        TabularSpace(), (FRONT,), (PRICE,), steps=9, batch_size=64, has_weights=True
    )
    assert space.families == tuple(name for name in FAMILIES if name != "tabm")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_members_train_in_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(1)
        large = dataclasses.replace(PRICE, variance=(1e10,))
        model = networks(large).build(values_of("tabm"))
        y = np.random.default_rng(0).normal(1000, 1e5, size=(40, 1))
        assert np.isfinite(model.train_on_batch(matrix(), y))
    finally:
        keras.config.set_dtype_policy(before)


def test_a_line_is_straight_in_the_numbers_as_they_are():
    scaled = np.array([-8.0, -2.0, 0.0, 1.0, 4.0], "float32")
    x = np.zeros((5, FRONT.width), "float32")
    x[:, 0] = scaled / np.sqrt(1 + (scaled / 3) ** 2)  # as shards are encoded
    for numbers, is_straight in (("plain", True), ("clipped", False)):
        model = networks().build(values_of("linear", **{"linear/numbers": numbers}))
        kernel = model.get_layer("price_raw").kernel
        kernel.assign(np.eye(1, kernel.shape[0]).T)
        predicted = (np.asarray(model(x))[:, 0] - 1000) / 20
        assert np.allclose(predicted, scaled, rtol=1e-4) == is_straight


def test_biases_do_not_decay():
    program = json.loads(serialize_model(networks().build(values_of("mlp"))))
    assert program["undecayed"]


@pytest.mark.parametrize("rows", [30, 400, 3_000, 50_000, 10**7])
@pytest.mark.parametrize("partitions", [1, 2, 16])
def test_sizes_suit_the_table(rows, partitions):
    size = choose_batch_size(rows)
    epochs, passes = choose_epochs(rows, size, partitions)
    assert 32 <= size <= 1024
    assert epochs >= 1
    assert 1 <= passes <= 4
    assert 12 <= epochs * passes <= 140
    assert epochs * passes * rows / size < 3_000 or epochs * passes == 12


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_that_is_built_again_is_described_alike(family):
    programs = [serialize_model(networks().build(values_of(family))) for _ in range(2)]
    keras.layers.Activation("relu")  # Keras goes on numbering
    programs.append(serialize_model(networks().build(values_of(family))))
    descriptions = [describe_network(program) for program in programs]
    assert descriptions[0] == descriptions[1] == descriptions[2]
