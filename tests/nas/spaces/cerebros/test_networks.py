from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.cerebros.networks import CerebrosNetworks, Output
from nas.spaces.cerebros.space import CerebrosSpace

pytestmark = pytest.mark.usefixtures("fresh_keras")


def small(**more) -> CerebrosSpace:  # type: ignore[no-untyped-def]
    bounds = {"maximum_levels": 2, "maximum_units_per_level": 2}
    return CerebrosSpace.published(**{**bounds, **more})


def networks(outputs: list[Output] | None = None, shapes=((3,),), **more) -> CerebrosNetworks:  # type: ignore[no-untyped-def]
    space = more.pop("space", small())
    heads = outputs or [Output("price", 1, metrics=("root_mean_squared_error",))]
    return CerebrosNetworks(space, shapes, heads, jit_compile=False, **more)


def built(builder: CerebrosNetworks, **values) -> keras.Model:  # type: ignore[no-untyped-def]
    hp = keras_tuner.HyperParameters()
    hp.values.update(values)
    return builder.build(hp)


TWO = [
    Output("price", 1, "linear", "mse", (keras.metrics.RootMeanSquaredError(),)),
    Output("kind", 3, "softmax", keras.losses.SparseCategoricalCrossentropy(), ("accuracy",)),
]


def test_one_output_has_plain_metric_names() -> None:
    model = built(networks())
    assert [tensor.name for tensor in model.inputs] == ["input_0"]
    assert model.output_names == ["price"]
    x, y = np.random.rand(8, 3), np.random.rand(8, 1)
    logs = model.fit(x, y, validation_data=(x, y), verbose=0).history
    assert set(logs) == {
        "loss",
        "root_mean_squared_error",
        "val_loss",
        "val_root_mean_squared_error",
    }


def test_accuracy_fits_its_loss() -> None:
    heads = [Output("kind", 3, "softmax", "sparse_categorical_crossentropy", ("accuracy",))]
    model = built(networks(heads))
    logs = model.evaluate(np.random.rand(8, 3), np.arange(8) % 3, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "accuracy"}


def test_the_model_matches_the_plan() -> None:
    builder = networks(TWO, shapes=((3,), (2, 2)))
    hp = keras_tuner.HyperParameters()
    model = builder.build(hp)
    assert model.count_params() == builder.plan(hp).parameters
    assert model.optimizer.learning_rate.numpy() == pytest.approx(0.0664)
    assert hp.values["learning_rate"] == 0.0664


def test_scheduled_rates_rise_and_fall_to_zero() -> None:
    space = small(learning_rate=0.01, learning_rate_schedule="cosine")
    builder = networks(space=space, count_steps=lambda batch_size: 3200 // (batch_size or 32))
    rate = built(builder).optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 5, 100)] == pytest.approx([0, 0.01, 0], abs=1e-6)
    assert built(builder, batch_size=16).optimizer._learning_rate.steps == 200
    assert isinstance(built(networks(space=space)).optimizer._learning_rate, keras.Variable)
    constant = networks(space=small(), count_steps=lambda batch_size: 100)
    assert isinstance(built(constant).optimizer._learning_rate, keras.Variable)


def test_names_of_several_outputs_survive_json_in_a_fresh_process(tmp_path: Path) -> None:
    model = built(networks(TWO, shapes=((3,), (2,)), input_names=["rooms", "place"]))
    rng = np.random.default_rng(0)
    x = [rng.random((8, 3)), rng.random((8, 2))]
    y = [rng.random((8, 1)), np.arange(8) % 3]
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert {"price_loss", "kind_loss", "price_root_mean_squared_error", "kind_accuracy"} <= set(
        logs
    )
    (tmp_path / "model.json").write_text(model.to_json())
    (tmp_path / "compile.json").write_text(json.dumps(model.get_compile_config()))
    model.save_weights(tmp_path / "m.weights.h5")
    np.savez(tmp_path / "data.npz", a=x[0], b=x[1], c=y[0], d=y[1])
    code = (
        "import json, keras, numpy as np; d = np.load('data.npz')\n"
        "m = keras.models.model_from_json(open('model.json').read())\n"
        "m.compile_from_config(json.load(open('compile.json')))\n"
        "m.load_weights('m.weights.h5')\n"
        "assert [t.name for t in m.inputs] == ['rooms', 'place']\n"
        "assert m.output_names == ['price', 'kind']\n"
        "logs = m.evaluate([d['a'], d['b']], [d['c'], d['d']], verbose=0, return_dict=True)\n"
        "m.fit([d['a'], d['b']], [d['c'], d['d']], verbose=0)\n"
        "json.dump(logs, open('logs.json', 'w'))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert json.loads((tmp_path / "logs.json").read_text()) == pytest.approx(logs, rel=1e-4)


def test_normalization_centers_scales_and_has_no_weights() -> None:
    mean, variance = [5.0, 1e6, 3.0], [4.0, 0.0, 1e-9]
    model = built(networks(normalizations=[(mean, variance)]))
    layer = model.get_layer("input0_normalization")
    assert not layer.weights
    rows = np.array([[7.0, 1e6, 3.0], [5.0, 1e6 + 1, 3.0]], "float32")
    # A constant feature is centred only: it can't blow up on a value it never had.
    expected = [[1, 0, 0], [0, 1, 0]]
    np.testing.assert_allclose(np.array(layer(rows)), expected, atol=1e-3)
    again = keras.models.model_from_json(model.to_json())
    np.testing.assert_allclose(
        np.array(again.get_layer("input0_normalization")(rows)), expected, atol=1e-3
    )


@pytest.mark.parametrize("size", [1, 3, 12])
def test_normalization_of_an_input_that_is_not_flat(size: int) -> None:
    mean = np.arange(size, dtype="float64")
    builder = networks(shapes=((2, 2, 3),), normalizations=[(mean, np.full(size, 4.0))])
    layer = built(builder).get_layer("input0_normalization")
    x = np.random.rand(5, 2, 2, 3)
    target = {1: (1,), 3: (3,), 12: (2, 2, 3)}[size]
    np.testing.assert_allclose(layer(x), (x - mean.reshape(target)) / 2, rtol=1e-5, atol=1e-6)


def test_normalization_of_integers_and_of_one_input_only() -> None:
    builder = networks(
        shapes=((3,), (2,)),
        input_dtypes=["int32", "float32"],
        normalizations=[([1, 2, 3], [1, 1, 1]), None],
    )
    model = built(builder)
    assert [tensor.dtype for tensor in model.inputs] == ["int32", "float32"]
    assert model.predict([np.ones((2, 3), "int32"), np.ones((2, 2))], verbose=0).shape == (2, 1)


def test_several_learning_rates_are_searched() -> None:
    builder = networks(space=small(learning_rate=(0.1, 0.01)))
    assert built(builder, learning_rate=0.01).optimizer.learning_rate.numpy() == pytest.approx(0.01)
    sgd = networks(optimizer="sgd")
    assert isinstance(built(sgd).optimizer, keras.optimizers.SGD)
    assert built(sgd).optimizer.learning_rate.numpy() == pytest.approx(0.0664)


def test_an_optimizer_keeps_its_own_learning_rate_and_is_not_shared() -> None:
    builder = networks(optimizer=keras.optimizers.Adam(0.5, beta_1=0.8))
    hp = keras_tuner.HyperParameters()
    first, second = builder.build(hp), builder.build(hp)
    assert "learning_rate" not in hp.values
    assert first.optimizer is not second.optimizer
    assert first.optimizer.learning_rate.numpy() == pytest.approx(0.5)
    assert first.optimizer.beta_1 == 0.8


def test_a_base_model_is_copied_with_its_weights() -> None:
    def backbone() -> keras.Model:
        return keras.Sequential(
            [keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3, trainable=False)], name="same"
        )

    first, second = backbone(), backbone()
    shapes = ((4, 4, 1), (3,), (4, 4, 1))
    builder = networks(shapes=shapes, base_models={0: first, 2: second})
    model = built(builder)
    copy = model.get_layer("input0_base")
    assert copy is not first
    assert all(np.array_equal(a, b) for a, b in zip(copy.weights, first.weights, strict=True))
    before = [weight.copy() for weight in first.get_weights()]
    x = [np.random.rand(8, *shape) for shape in shapes]
    model.fit(x, np.random.rand(8, 1), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, first.get_weights(), strict=True))
    assert not copy.trainable_weights
    again = keras.models.model_from_json(model.to_json())
    assert again.count_params() == model.count_params()


def test_the_same_seed_gives_the_same_model() -> None:
    architectures = []
    for _ in range(2):
        keras.backend.clear_session()
        keras.utils.set_random_seed(1)
        architectures.append(built(networks(space=small(regularization="none"), seed=3)).to_json())
    # Layer configs hold no seeds here, so the JSON is the same.
    assert architectures[0] == architectures[1]


def test_training_lowers_the_loss() -> None:
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(50, 10, size=(256, 3))
    y = x @ [1.0, -2.0, 0.5]
    builder = networks(
        space=small(minimum_neurons_per_unit=3),
        normalizations=[(x.mean(axis=0), x.var(axis=0))],
    )
    losses = built(builder).fit(x, y, epochs=6, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2


def unregistered(y_true, y_pred):  # type: ignore[no-untyped-def]
    return keras.ops.mean(y_true - y_pred)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Output("", 1), "name .* got ''"),
        (lambda: Output("a/b", 1), "name .* got 'a/b'"),
        (lambda: Output("a", 0), "width .* got 0"),
        (lambda: Output("a", 1, "nothing"), "activation .* got 'nothing'"),
        (lambda: Output("a", 1, loss=None), "loss .* got None"),
        (lambda: Output("a", 1, loss=unregistered), "serialize loss: .*register"),
        (lambda: Output("a", 1, metrics="accuracy"), "metrics .* got 'accuracy'"),
        (lambda: networks(shapes=()), "needs an input"),
        (lambda: networks(shapes=((0,),)), r"input_shapes\[0\] .* got 0"),
        (lambda: networks(input_names=["a", "b"]), "input_names"),
        (lambda: networks(input_names=["price"]), "different names"),
        (lambda: networks(input_dtypes=[]), "input_dtypes"),
        (lambda: networks(normalizations=[([0, 0], [1, 1])]), r"normalizations\[0\] .* got 2"),
        (lambda: networks(normalizations=[([0] * 3, [1] * 2)]), r"normalizations\[0\]"),
        (lambda: networks(normalizations=[([0] * 3, [-1] * 3)]), r"normalizations\[0\]"),
        (lambda: networks(normalizations=[([np.nan] * 3, [1] * 3)]), r"normalizations\[0\]"),
        (lambda: networks(base_models={1: keras.Sequential()}), r"inputs \[1\]"),
        (lambda: networks(base_models={0: keras.Sequential()}), r"base_models\[0\] .*None"),
    ],
)
def test_arguments_are_checked(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ArgumentError, match=words):
        make()
