from __future__ import annotations

import keras
import numpy as np
import pytest

from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.training.keras.scopes import seeded_initializers
from cerebros_spark.training.keras.serialization import serialize_model
from tests.cerebros_spark.training.keras.small_trials import (
    BATCH,
    Data,
    check_same_variables,
    merged,
    opened,
    reference,
    restored,
)

CLASS_WEIGHT = {0: 0.2, 2: 3.0}
OUTPUT_LOSSES = {"price_loss", "sold_loss"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    def made(name: str, features: list[str], labels: list[str], **more) -> Data:
        return Data(tmp_path_factory.mktemp(name), features, labels, **more)

    weights = {"weight_column": "weight"}
    return {
        "price": made("price", ["a"], ["price"], **weights),
        "unweighted": made("unweighted", ["a"], ["kind"]),
        "kind": made("kind", ["a"], ["kind"], **weights),
        "one_hot": made("one_hot", ["a"], ["one_hot"], **weights),
        "several": made("several", ["a", "b"], ["price", "sold"], **weights),
    }


def regression(**more):
    return compiled(3, keras.layers.Dense(1), "mse", **more)


def classifier(loss: str, **more):
    return compiled(3, keras.layers.Dense(3, activation="softmax"), loss, **more)


def compiled(width: int, last, loss: str, **more):
    with seeded_initializers(3):
        inputs = keras.Input((width,))
        hidden = keras.layers.Dense(6, activation="elu")(inputs)
        model = keras.Model(inputs, last(hidden))
    model.compile(keras.optimizers.Adam(0.05), loss, **more)
    return model


def two_headed(**more):
    with seeded_initializers(3):
        first, second = keras.Input((3,)), keras.Input((2,))
        both = keras.layers.Concatenate()([first, second])
        hidden = keras.layers.Dense(5, activation="tanh")(both)
        price = keras.layers.Dense(1, name="price")(hidden)
        sold = keras.layers.Dense(1, activation="sigmoid", name="sold")(hidden)
        model = keras.Model([first, second], [price, sold])
    model.compile(
        keras.optimizers.Adam(0.05),
        {"price": "mse", "sold": "binary_crossentropy"},
        metrics={"price": ["mae"], "sold": ["accuracy"]},
        weighted_metrics={"price": ["mae"], "sold": ["accuracy", keras.metrics.AUC(name="auc")]},
        **more,
    )
    return model


METRICS = {"metrics": ["mae"], "weighted_metrics": ["mae", keras.metrics.RootMeanSquaredError()]}
ACCURACY = {"metrics": ["accuracy"], "weighted_metrics": ["accuracy"]}
MODELS = {
    "price": lambda: regression(**METRICS),
    "kind": lambda: classifier("sparse_categorical_crossentropy", **ACCURACY),
    "one_hot": lambda: classifier("categorical_crossentropy", **ACCURACY),
    "several": lambda: two_headed(),
}


def rows_in_order(shard, seed):
    """The rows of a shard in the order of a unit: x, y and weights, as Keras takes them."""
    order = None if seed is None else derive_seed(seed, "order")
    (chunk,) = list(shard.chunks(BATCH, order))
    x, y = ([each[chunk.order] for each in arrays] for arrays in (chunk.x, chunk.y))
    weights = None if chunk.weights is None else chunk.weights[chunk.order]
    return x[0] if len(x) == 1 else x, y[0] if len(y) == 1 else y, weights


def fit_by_keras(model, shard, seed, **more) -> dict[str, float]:
    x, y, weights = rows_in_order(shard, seed)
    if "class_weight" not in more:
        more["sample_weight"] = weights
    history = model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, **more)
    # The losses of single outputs are left out: Keras counts a small last batch as a full one.
    return {n: values[0] for n, values in history.history.items() if n not in OUTPUT_LOSSES}


def same_as(wanted: dict[str, float], got: dict[str, float]) -> bool:
    return {name: got[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_sample_weights_train_as_in_keras(prepared, name):
    data, model = prepared[name], MODELS[name]()
    program, by_keras = opened(model), reference(model)
    shard = data.train[0]
    for seed in (1, 2):
        (state,) = program.train(shard, [seed])
        wanted = fit_by_keras(by_keras, shard, seed)
        got = merged(model, data, [state])
        assert same_as(wanted, got)
        assert set(got) - set(wanted) == (OUTPUT_LOSSES if name == "several" else set())
    check_same_variables(restored(model, program.dump()[0]), by_keras)
    assert program.traces == 1


def pairs(chunks) -> set[tuple[float, float]]:
    """A feature and the weight of each row."""
    return {
        (row[0], weight)
        for chunk in chunks
        for row, weight in zip(chunk.x[0], chunk.weights, strict=True)
    }


def test_streamed_weights_stay_with_their_rows(prepared):
    data, model = prepared["price"], MODELS["price"]()
    one, other = opened(model), opened(model)
    shard = data.manifest.validation[0]
    streamed = data.open(shard, 200)
    assert not streamed.resident
    assert merged(model, data, one.evaluate(streamed)) == pytest.approx(
        merged(model, data, other.evaluate(data.open(shard))), rel=1e-6
    )
    (chunk,) = data.open(shard).chunks(4, None)
    assert pairs(streamed.chunks(4, 5)) == pairs([chunk])
    one.train(streamed, [1])
    assert one.traces == 2


@pytest.mark.parametrize("name", MODELS)
def test_weighted_validation_merges_into_one_evaluation(prepared, name):
    data, model = prepared[name], MODELS[name]()
    program = opened(model)
    states = [program.evaluate(shard)[0] for shard in data.validation]
    parts = [rows_in_order(shard, None) for shard in data.validation]
    x, y, weights = (
        [np.concatenate(each) for each in zip(*column, strict=True)]
        if isinstance(column[0], list)
        else np.concatenate(column)
        for column in zip(*parts, strict=True)
    )
    options = {"sample_weight": weights, "verbose": 0, "return_dict": True}
    model.run_eagerly = True
    wanted = model.evaluate(x, y, batch_size=BATCH, **options)
    got = merged(model, data, states)
    assert got.keys() == wanted.keys()
    assert got == pytest.approx(wanted, rel=1e-6)
    del options["sample_weight"]
    plain = model.evaluate(x, y, batch_size=BATCH, **options)
    assert got["loss"] != pytest.approx(plain["loss"], rel=1e-3)
    unweighted = {"price": "mae", "several": "price_mae"}.get(name, "accuracy")
    assert got[unweighted] == pytest.approx(plain[unweighted], rel=1e-6)
    assert got[f"weighted_{unweighted}" if name != "several" else "price_weighted_mae"] != (
        pytest.approx(plain[unweighted], rel=1e-6)
    )


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_class_weights_train_as_in_keras(prepared, tmp_path, loss):
    label = "kind" if loss.startswith("sparse") else "one_hot"
    data = prepared["unweighted"] if label == "kind" else Data(tmp_path, ["a"], [label])
    model = classifier(loss, **ACCURACY)
    weights = CLASS_WEIGHT
    program = opened(model, program=serialize_model(model, weights))
    by_keras = reference(model)
    for seed in (1, 2):
        (state,) = program.train(data.train[0], [seed])
        wanted = fit_by_keras(by_keras, data.train[0], seed, class_weight=weights)
        assert merged(model, data, [state]) == pytest.approx(wanted, rel=1e-5)
    check_same_variables(restored(model, program.dump()[0]), by_keras)
    assert program.traces == 1


def test_class_weights_of_two_classes_train_as_in_keras(tmp_path):
    data = Data(tmp_path, ["a"], ["sold"])
    model = compiled(3, keras.layers.Dense(1, activation="sigmoid"), "binary_crossentropy")
    program = opened(model, program=serialize_model(model, {1: 5.0}))
    by_keras = reference(model)
    (state,) = program.train(data.train[0], [1])
    wanted = fit_by_keras(by_keras, data.train[0], 1, class_weight={1: 5.0})
    assert merged(model, data, [state]) == pytest.approx(wanted, rel=1e-5)


def test_class_weights_apply_to_training_only(prepared):
    data = prepared["unweighted"]
    model = classifier("sparse_categorical_crossentropy", **ACCURACY)
    plain, weighted = opened(model), opened(model, program=serialize_model(model, CLASS_WEIGHT))
    shard = data.validation[0]
    assert plain.evaluate(shard) == weighted.evaluate(shard)


def test_sample_weights_and_class_weights_multiply(prepared):
    data = prepared["kind"]
    model = classifier("sparse_categorical_crossentropy", **ACCURACY)
    program = opened(model, program=serialize_model(model, CLASS_WEIGHT))
    by_keras = reference(model)
    program.train(data.train[0], [1])
    x, y, weights = rows_in_order(data.train[0], 1)
    by_class = np.array([CLASS_WEIGHT.get(int(each), 1.0) for each in y[:, 0]], "float32")
    by_keras.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, sample_weight=weights * by_class)
    check_same_variables(restored(model, program.dump()[0]), by_keras)


@pytest.mark.parametrize(
    "weights", [[3.0, 0.25], {"price": 3.0, "sold": 0.25}], ids=["list", "dict"]
)
def test_loss_weights_train_as_in_keras(prepared, weights):
    data, model = prepared["several"], two_headed(loss_weights=weights)
    program, by_keras = opened(model), reference(model)
    (state,) = program.train(data.train[0], [1])
    wanted = fit_by_keras(by_keras, data.train[0], 1)
    metrics = merged(model, data, [state])
    assert same_as(wanted, metrics)
    by_parts = 3.0 * metrics["price_loss"] + 0.25 * metrics["sold_loss"]
    assert metrics["loss"] == pytest.approx(by_parts, rel=1e-5)
    check_same_variables(restored(model, program.dump()[0]), by_keras)
